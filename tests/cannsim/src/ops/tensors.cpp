// aclTensor and its like: CANN's descriptions of what is in device memory, which is host memory here.
#include "op.h"

namespace cannsim {

at::ScalarType scalar_type(aclDataType type) {
    switch (type) {
        case ACL_FLOAT: return at::kFloat;
        case ACL_FLOAT16: return at::kHalf;
        case ACL_BF16: return at::kBFloat16;
        case ACL_DOUBLE: return at::kDouble;
        case ACL_INT8: return at::kChar;
        case ACL_UINT8: return at::kByte;
        case ACL_INT16: return at::kShort;
        case ACL_INT32: return at::kInt;
        case ACL_INT64: return at::kLong;
        case ACL_BOOL: return at::kBool;
        case ACL_COMPLEX64: return at::kComplexFloat;
        case ACL_COMPLEX128: return at::kComplexDouble;
#if __has_include(<ATen/Dispatch_v2.h>)  // torch 2.3 and newer
        case ACL_UINT16: return at::kUInt16;
        case ACL_UINT32: return at::kUInt32;
        case ACL_UINT64: return at::kUInt64;
#endif
        default: return at::ScalarType::Undefined;
    }
}

const aclTensor* given(const aclTensor* tensor) {
    TORCH_CHECK(tensor, "a tensor is a null pointer");
    return tensor;
}

Tensor view(const aclTensor* tensor) { return tensor->view; }

Tensor wide(const Tensor& tensor) {
    bool half = tensor.scalar_type() == at::kHalf || tensor.scalar_type() == at::kBFloat16;
    return half ? tensor.to(at::kFloat) : tensor;
}

c10::optional<Tensor> wide(const c10::optional<Tensor>& tensor) {
    return tensor ? c10::optional<Tensor>(wide(*tensor)) : c10::nullopt;
}

void put(const Tensor& out, const Tensor& value) {
    TORCH_CHECK(out.numel() == value.numel() && (out.sizes() == value.sizes() || out.numel() <= 1),
                "the result has sizes ", value.sizes(), " and the output ", out.sizes());
    out.copy_(value.reshape(out.sizes()));
}

void put_found(const Sized& out, const Tensor& value) {
    TORCH_CHECK(value.numel() <= out.numel(), "the output has no room for ", value.numel(), " elements");
    out.flatten().narrow(0, 0, value.numel()).copy_(value.flatten());
    out.found->assign(value.sizes().begin(), value.sizes().end());
}

Tensor unpacked(const Tensor& mask, int64_t count) {
    TORCH_CHECK(mask.numel() * 8 >= count, "the mask has ", mask.numel(), " bytes for ", count, " elements");
    auto weights = at::pow(2, at::arange(8, at::kInt));
    auto bits = at::bitwise_and(mask.flatten().to(at::kInt).unsqueeze(1), weights).ne(0);
    return bits.flatten().narrow(0, 0, count).to(at::kFloat);
}

static Scalar read(const void* value, aclDataType type) {
    auto as = [value]<class T>(T) { return *static_cast<const T*>(value); };
    switch (type) {
        case ACL_FLOAT: return as(float());
        case ACL_DOUBLE: return as(double());
        case ACL_FLOAT16: return float(as(at::Half()));
        case ACL_BF16: return float(as(at::BFloat16()));
        case ACL_BOOL: return as(bool());
        case ACL_UINT8: return int64_t(as(uint8_t()));
        case ACL_INT8: return int64_t(as(int8_t()));
        case ACL_INT16: return int64_t(as(int16_t()));
        case ACL_INT32: return int64_t(as(int32_t()));
        case ACL_INT64: return as(int64_t());
        case ACL_COMPLEX64: return as(c10::complex<float>());
        case ACL_COMPLEX128: return as(c10::complex<double>());
        default: return 0;
    }
}

}  // namespace cannsim

using namespace cannsim;

API aclTensor* aclCreateTensor(const int64_t* sizes, uint64_t count, aclDataType type, const int64_t* strides,
                               int64_t offset, aclFormat format, const int64_t*, uint64_t, void* data) {
    auto* tensor = new aclTensor{{}, type, format, std::make_shared<std::vector<int64_t>>(sizes, sizes + count)};
    auto element = scalar_type(type);
    if (element == at::ScalarType::Undefined) return tensor;
    char* first = static_cast<char*>(data) + offset * c10::elementSize(element);
    auto options = at::TensorOptions().dtype(element);
    tensor->view = at::from_blob(first, {sizes, count}, {strides, count}, options);
    return tensor;
}
API aclScalar* aclCreateScalar(void* value, aclDataType type) { return new aclScalar{read(value, type)}; }
API aclIntArray* aclCreateIntArray(const int64_t* values, uint64_t count) {
    return new aclIntArray{{values, values + count}};
}
API aclBoolArray* aclCreateBoolArray(const bool* values, uint64_t count) {
    return new aclBoolArray{std::vector<bool>(values, values + count)};  // braces would make two of the pointers
}
API aclTensorList* aclCreateTensorList(const aclTensor* const* tensors, uint64_t count) {
    return new aclTensorList{{tensors, tensors + count}};
}
API aclScalarList* aclCreateScalarList(const aclScalar* const* scalars, uint64_t count) {
    auto* list = new aclScalarList;
    for (uint64_t i = 0; i < count; ++i) list->values.push_back(scalars[i]->value);
    return list;
}

// What an operator needs of them it has copied, so they can go at once.
API int aclDestroyTensor(const aclTensor* tensor) { return delete tensor, OK; }
API int aclDestroyScalar(const aclScalar* scalar) { return delete scalar, OK; }
API int aclDestroyIntArray(const aclIntArray* array) { return delete array, OK; }
API int aclDestroyBoolArray(const aclBoolArray* array) { return delete array, OK; }
API int aclDestroyScalarList(const aclScalarList* list) { return delete list, OK; }
API int aclDestroyTensorList(const aclTensorList* list) {  // with its tensors, as CANN's page says
    for (const aclTensor* tensor : list->tensors) delete tensor;
    return delete list, OK;
}

// The caller frees the array with delete[]; asked after a synchronisation, as only then the sizes are found.
API int aclGetViewShape(const aclTensor* tensor, int64_t** sizes, uint64_t* count) {
    *count = tensor->found->size();
    *sizes = new int64_t[*count + 1];
    std::copy(tensor->found->begin(), tensor->found->end(), *sizes);
    return OK;
}
