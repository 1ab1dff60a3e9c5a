// The older interface to operators (aclop): torch_npu describes tensors and attributes with it for every operator that
// has no aclnn function. None is simulated; the call fails and names the operator.
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

static aclError not_simulated(const char* name) {
    return fail(E_OP_NOT_FOUND, std::string("EZ3003: the operator ") + name + " (aclop) is not simulated");
}

API aclError aclopCompileAndExecute(const char* name, int, const aclTensorDesc* const[], const aclDataBuffer* const[],
                                    int, const aclTensorDesc* const[], aclDataBuffer* const[], const aclopAttr*,
                                    aclopEngineType, aclopCompileType, const char*, aclrtStream) {
    return not_simulated(name);
}
API aclError aclopCompileAndExecuteV2(const char* name, int, aclTensorDesc*[], aclDataBuffer*[], int, aclTensorDesc*[],
                                      aclDataBuffer*[], aclopAttr*, aclopEngineType, aclopCompileType, const char*,
                                      aclrtStream) {
    return not_simulated(name);
}
