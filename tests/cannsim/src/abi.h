// What all the libraries here share: CANN's numbers and names, as the headers in torch_npu's wheel have them (compile
// with -I .../torch_npu/include of that wheel, so that a number or signature that changed does not compile), and what
// libascendcl.so offers to the libraries beside it (cannsim_*).
#pragma once
#include <cstddef>
#include <cstdint>

#include "acl/acl_base.h"

#define API extern "C" __attribute__((visibility("default")))

// ---- CANN's numbers, under short names

enum : aclError {
    OK = ACL_SUCCESS,
    // acl: what the caller did wrong
    E_PARAM = ACL_ERROR_INVALID_PARAM,
    E_REPEAT_INIT = ACL_ERROR_REPEAT_INITIALIZE,
    E_OP_NOT_FOUND = ACL_ERROR_OP_NOT_FOUND,
    E_FEATURE = ACL_ERROR_FEATURE_UNSUPPORTED,
    E_FAILURE = ACL_ERROR_FAILURE,
    // aclnn (not in the wheel's headers): an operator got no tensor where it needs one, or refused its arguments, or
    // failed
    E_ACLNN_NULLPTR = 161001,
    E_ACLNN_PARAM = 161002,
    E_ACLNN_RUNTIME = 361001,
    E_ACLNN_INNER = 561000,
    // runtime: the same, of devices, streams and memory
    E_RT_PARAM = ACL_ERROR_RT_PARAM_INVALID,
    E_RT_DEVICE = ACL_ERROR_RT_INVALID_DEVICEID,
    E_NO_CONTEXT = ACL_ERROR_RT_CONTEXT_NULL,
    E_RT_STREAM_CONTEXT = ACL_ERROR_RT_STREAM_CONTEXT,
    E_OOM = ACL_ERROR_RT_MEMORY_ALLOCATION,
    // runtime: the device failed; these come back at a later call
    E_RT_LOST_HEARTBEAT = ACL_ERROR_RT_LOST_HEARTBEAT,
    E_RT_AICORE_EXCEPTION = ACL_ERROR_RT_AICORE_EXCEPTION,
    E_RT_AICPU_EXCEPTION = ACL_ERROR_RT_AICPU_EXCEPTION,
    E_RT_VECTOR_CORE_EXCEPTION = ACL_ERROR_RT_VECTOR_CORE_EXCEPTION,
};

constexpr aclDataType DT_UNDEFINED = ACL_DT_UNDEFINED, DT_FLOAT = ACL_FLOAT, DT_FLOAT16 = ACL_FLOAT16,
                      DT_BF16 = ACL_BF16, DT_DOUBLE = ACL_DOUBLE, DT_INT8 = ACL_INT8, DT_INT16 = ACL_INT16,
                      DT_INT32 = ACL_INT32, DT_INT64 = ACL_INT64, DT_UINT8 = ACL_UINT8, DT_UINT16 = ACL_UINT16,
                      DT_UINT32 = ACL_UINT32, DT_UINT64 = ACL_UINT64, DT_BOOL = ACL_BOOL, DT_STRING = ACL_STRING,
                      DT_COMPLEX64 = ACL_COMPLEX64, DT_COMPLEX128 = ACL_COMPLEX128;

// ---- what libascendcl.so offers to libopapi.so and libhccl.so

// Puts a task into a stream (null: the default stream of the current device). run(argument) is called exactly once, in
// the stream's own thread, or here with CANNSIM_SYNC=1; so it is run that frees the argument. It is called on a stream
// that has failed already, too, where nobody can see what it does. It returns 0, or the status with which the stream
// fails from then on (cannsim_error first says why). It must not throw.
// -> the status with which the stream or the device has failed so far (with CANNSIM_SYNC=1: this task's own); a launch
// returns it to torch_npu.
API int cannsim_submit(void* stream, int (*run)(void* argument), void* argument);
// The same for what only frees: in its turn, never late, not counted, and it cannot fail.
API void cannsim_release(void* stream, void (*run)(void* argument), void* argument);
// Counts a launch of an operator, right before the cannsim_submit that launches it (in the same thread): the faults of
// CANNSIM_FAULT that ask for this launch make that cannsim_submit fail.
API void cannsim_count_launch(const char* name);
// What aclGetRecentErrMsg says next in this thread; in a task: in the thread that gets to hear of the failure.
API void cannsim_error(const char* text);
// One line on stderr where CANNSIM_LOG is set, such as the name of an operator that is not simulated.
API void cannsim_log(const char* text);
// The current device of this thread; in a task: the stream's. -1: none yet.
API int cannsim_device();
// CANNSIM_SOC, such as "Ascend910B3", and whether that is a 910A: no bfloat16, overflow saturates and sets the
// register.
API const char* cannsim_soc();
API bool cannsim_first_generation();
// The overflow register of the current device.
API void cannsim_overflow_set();
API bool cannsim_overflow_get();
API void cannsim_overflow_clear();
// Counts since the start or the last reset, as JSON in a file; for programs that count parts of themselves.
API void cannsim_counts_reset();
API int cannsim_counts_write(const char* path);
// Writes the file of CANNSIM_COUNTS, if there is to be one.
API void cannsim_counts_end();

// ---- what libopapi.so must have for build.py's list of aclnn functions that are named and not simulated

// Says that this operator is not simulated. -> the status with which its call fails
API int cannsim_unknown(const char* name);
