// The types of HCCL, which of them a chip's collectives take, and the reductions.
//
// Types as the pages of HcclAllReduce and HcclAllGather in CANN's documentation list them (8.5.0): Atlas A2 is the
// 910B, "Atlas training products" the 910A.
#include <algorithm>
#include <cstring>

#include "hccl.h"

namespace cannsim::hccl {
namespace {

struct bfloat16 {
    uint16_t bits;
    operator float() const {
        uint32_t wide = uint32_t(bits) << 16;
        float value;
        memcpy(&value, &wide, sizeof value);
        return value;
    }
    bfloat16() = default;
    bfloat16(float value) {
        uint32_t wide;
        memcpy(&wide, &value, sizeof wide);
        bits = value != value ? 0x7fc0 : uint16_t((wide + 0x7fff + ((wide >> 16) & 1)) >> 16);  // to nearest, even
    }
};

// A: what the sum is computed in; it is rounded to X after each rank, as the devices do.
template <class X, class A>
X combine(X x, X y, HcclReduceOp op) {
    A a = A(x), b = A(y);
    switch (op) {
        case HCCL_REDUCE_SUM: return X(a + b);
        case HCCL_REDUCE_PROD: return X(a * b);
        case HCCL_REDUCE_MAX: return a != a || a > b ? x : y;  // NaN stays
        default: return a != a || a < b ? x : y;
    }
}

template <class X, class A>
void reduce(Communicator& c, HcclReduceOp op, size_t count, size_t offset, void* out) {
    for (size_t i = 0; i < count; ++i) {
        X all = reinterpret_cast<X*>(c.slot(0) + offset)[i];
        for (uint32_t r = 1; r < c.ranks; ++r)
            all = combine<X, A>(all, reinterpret_cast<X*>(c.slot(r) + offset)[i], op);
        static_cast<X*>(out)[i] = all;
    }
}

bool one_of(HcclDataType type, std::initializer_list<HcclDataType> types) {
    return std::find(types.begin(), types.end(), type) != types.end();
}

HcclResult refuse(const char* name, HcclDataType type) {
    std::string text =
        std::string("EI0003: ") + name + " takes no data type " + std::to_string(type) + " on " + cannsim_soc();
    cannsim_error(text.c_str());
    return HCCL_E_NOT_SUPPORT;
}

}  // namespace

size_t size_of(HcclDataType type) {
    switch (type) {
        case HCCL_DATA_TYPE_INT8:
        case HCCL_DATA_TYPE_UINT8: return 1;
        case HCCL_DATA_TYPE_INT16:
        case HCCL_DATA_TYPE_UINT16:
        case HCCL_DATA_TYPE_FP16:
        case HCCL_DATA_TYPE_BFP16: return 2;
        case HCCL_DATA_TYPE_INT32:
        case HCCL_DATA_TYPE_UINT32:
        case HCCL_DATA_TYPE_FP32: return 4;
        case HCCL_DATA_TYPE_INT64:
        case HCCL_DATA_TYPE_UINT64:
        case HCCL_DATA_TYPE_FP64: return 8;
        default: return 0;
    }
}

HcclResult check_type(const char* name, HcclDataType type) {
    bool taken = size_of(type) && !(type == HCCL_DATA_TYPE_BFP16 && cannsim_first_generation());
    return taken ? HCCL_SUCCESS : refuse(name, type);
}

HcclResult check_reduction(const char* name, HcclDataType type, HcclReduceOp op) {
    bool taken = one_of(type, {HCCL_DATA_TYPE_INT8, HCCL_DATA_TYPE_INT32, HCCL_DATA_TYPE_INT64, HCCL_DATA_TYPE_FP16,
                               HCCL_DATA_TYPE_FP32});
    bool newer = one_of(type, {HCCL_DATA_TYPE_INT16, HCCL_DATA_TYPE_BFP16});  // on 910B, and no products of them
    taken |= newer && !cannsim_first_generation() && op != HCCL_REDUCE_PROD;
    return taken ? HCCL_SUCCESS : refuse(name, type);
}

void reduce_slots(Communicator& c, HcclDataType type, HcclReduceOp op, size_t count, size_t offset, void* out) {
    switch (type) {
        case HCCL_DATA_TYPE_INT8: return reduce<int8_t, int>(c, op, count, offset, out);
        case HCCL_DATA_TYPE_INT16: return reduce<int16_t, int>(c, op, count, offset, out);
        case HCCL_DATA_TYPE_INT32: return reduce<int32_t, int64_t>(c, op, count, offset, out);
        case HCCL_DATA_TYPE_INT64: return reduce<int64_t, int64_t>(c, op, count, offset, out);
        case HCCL_DATA_TYPE_FP16: return reduce<_Float16, float>(c, op, count, offset, out);
        case HCCL_DATA_TYPE_BFP16: return reduce<bfloat16, float>(c, op, count, offset, out);
        default: return reduce<float, float>(c, op, count, offset, out);
    }
}

}  // namespace cannsim::hccl
