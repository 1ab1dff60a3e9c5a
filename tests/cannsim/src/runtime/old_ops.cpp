// The older interface to operators (aclop): torch_npu describes tensors and attributes with it for every operator that
// has no aclnn function. Few are simulated; a call of another one fails and names the operator.
#include <memory>
#include <vector>

#include "acl/acl_op_compiler.h"
#include "runtime.h"

struct aclTensorDesc {
    aclDataType type;
    aclFormat format;
    std::vector<int64_t> sizes;
};
struct aclDataBuffer {
    void* address;
    size_t bytes;
};
struct aclopAttr {};

using namespace cannsim;

API aclTensorDesc* aclCreateTensorDesc(aclDataType type, int count, const int64_t* sizes, aclFormat format) {
    return new aclTensorDesc{type, format, {sizes, sizes + count}};
}
API void aclDestroyTensorDesc(const aclTensorDesc* tensor) { delete tensor; }
API size_t aclGetTensorDescNumDims(const aclTensorDesc* tensor) { return tensor->sizes.size(); }
API aclError aclGetTensorDescDimV2(const aclTensorDesc* tensor, size_t index, int64_t* size) {
    if (index >= tensor->sizes.size()) return fail(E_PARAM, "aclGetTensorDescDimV2: there is no such dimension");
    *size = tensor->sizes[index];
    return OK;
}
API aclDataType aclGetTensorDescType(const aclTensorDesc* tensor) { return tensor->type; }
API aclFormat aclGetTensorDescFormat(const aclTensorDesc* tensor) { return tensor->format; }
API void aclSetTensorDescName(aclTensorDesc*, const char*) {}
API aclError aclSetTensorFormat(aclTensorDesc*, aclFormat) { return OK; }
API aclError aclSetTensorShape(aclTensorDesc*, int, const int64_t*) { return OK; }
API aclError aclSetTensorPlaceMent(aclTensorDesc*, aclMemType) { return OK; }

API aclDataBuffer* aclCreateDataBuffer(void* address, size_t bytes) { return new aclDataBuffer{address, bytes}; }
API aclError aclDestroyDataBuffer(const aclDataBuffer* buffer) {
    delete buffer;
    return OK;
}

API aclopAttr* aclopCreateAttr() { return new aclopAttr; }
API void aclopDestroyAttr(const aclopAttr* attributes) { delete attributes; }
API aclError aclopSetAttrBool(aclopAttr*, const char*, uint8_t) { return OK; }
API aclError aclopSetAttrInt(aclopAttr*, const char*, int64_t) { return OK; }
API aclError aclopSetAttrFloat(aclopAttr*, const char*, float) { return OK; }
API aclError aclopSetAttrString(aclopAttr*, const char*, const char*) { return OK; }
API aclError aclopSetAttrDataType(aclopAttr*, const char*, aclDataType) { return OK; }
API aclError aclopSetAttrListBool(aclopAttr*, const char*, int, const uint8_t*) { return OK; }
API aclError aclopSetAttrListInt(aclopAttr*, const char*, int, const int64_t*) { return OK; }
API aclError aclopSetAttrListFloat(aclopAttr*, const char*, int, const float*) { return OK; }
API aclError aclopSetAttrListListInt(aclopAttr*, const char*, int, const int*, const int64_t* const[]) { return OK; }

// ---- the operators of this interface that are simulated: those of the register in which a chip notes that float16
// overflowed, with which torch_npu's GradScaler works on a 910A

namespace {

struct FloatStatus {
    bool clear, read;
    void* target;  // 8 numbers, the first of which says whether there was an overflow; null: none
    bool integers;
};

int run_float_status(void* argument) {
    std::unique_ptr<FloatStatus> status(static_cast<FloatStatus*>(argument));
    if (status->clear) cannsim_overflow_clear();
    bool overflow = status->read && cannsim_overflow_get();
    for (int i = 0; status->target && i < 8; ++i) {
        if (status->integers)
            static_cast<int32_t*>(status->target)[i] = overflow && i == 0;
        else
            static_cast<float*>(status->target)[i] = overflow && i == 0;
    }
    return OK;
}

void* address_of(int count, const aclDataBuffer* const buffers[]) { return count ? buffers[0]->address : nullptr; }

aclError execute(const std::string& name, int inputs, const aclDataBuffer* const input[], int outputs,
                 const aclDataBuffer* const output[], aclrtStream stream) {
    std::unique_ptr<FloatStatus> status;
    void* written = address_of(outputs, output);
    if (name == "NPUAllocFloatStatus") status.reset(new FloatStatus{false, false, written, false});
    if (name == "NPUClearFloatStatus") status.reset(new FloatStatus{true, false, written, false});
    if (name == "NPUClearFloatStatusV2") status.reset(new FloatStatus{true, false, nullptr, false});
    // the older one writes its input, which torch_npu then reads
    if (name == "NPUGetFloatStatus") status.reset(new FloatStatus{false, true, address_of(inputs, input), false});
    if (name == "NPUGetFloatStatusV2") status.reset(new FloatStatus{false, true, written, true});
    if (!status) return fail(E_OP_NOT_FOUND, "EZ3003: the operator " + name + " (aclop) is not simulated");
    cannsim_count_launch(name.c_str());
    return cannsim_submit(stream, run_float_status, status.release());
}

}  // namespace

API aclError aclopCompileAndExecute(const char* name, int inputs, const aclTensorDesc* const[],
                                    const aclDataBuffer* const input[], int outputs, const aclTensorDesc* const[],
                                    aclDataBuffer* const output[], const aclopAttr*, aclopEngineType, aclopCompileType,
                                    const char*, aclrtStream stream) {
    return execute(name, inputs, input, outputs, output, stream);
}
API aclError aclopCompileAndExecuteV2(const char* name, int inputs, aclTensorDesc*[], aclDataBuffer* input[],
                                      int outputs, aclTensorDesc*[], aclDataBuffer* output[], aclopAttr*,
                                      aclopEngineType, aclopCompileType, const char*, aclrtStream stream) {
    return execute(name, inputs, input, outputs, output, stream);
}
