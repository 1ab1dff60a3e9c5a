// The part of CANN's C interface that all the libraries here share: numbers and names, written down from the headers in
// torch_npu's wheel (torch_npu/include/acl), and what libascendcl.so offers to the libraries beside it (cannsim_*).
#pragma once
#include <cstddef>
#include <cstdint>

#define API extern "C" __attribute__((visibility("default")))

using aclError = int;
enum : aclError {
    OK = 0,
    // acl: what the caller did wrong
    E_PARAM = 100000,
    E_UNINITIALIZED = 100001,
    E_REPEAT_INIT = 100002,
    E_OP_NOT_FOUND = 100024,
    E_PROF_NOT_RUN = 100043,
    E_NOT_SUPPORTED = 200001,
    E_FEATURE = 200006,
    E_FAILURE = 500001,
    // aclnn: an operator refused its arguments; an operator failed while it was planned
    E_ACLNN_NULLPTR = 161001,
    E_ACLNN_PARAM = 161002,
    E_ACLNN_RUNTIME = 361001,
    E_ACLNN_INNER = 561000,
    // runtime: the same, of devices, streams and memory
    E_RT_PARAM = 107000,
    E_RT_DEVICE = 107001,
    E_NO_CONTEXT = 107002,
    E_RT_STREAM_CONTEXT = 107003,
    E_RT_EVENT_TIMESTAMP = 107006,
    E_RT_THREAD_SUBSCRIBE = 107012,
    E_RT_STREAM_ABORT = 107023,
    E_RT_FEATURE = 207000,
    E_OOM = 207001,
    E_RT_NO_DEVICE = 207004,
    E_RT_NO_PERMISSION = 207006,
    // runtime: the device failed; these come back at a later call
    E_RT_INTERNAL = 507000,
    E_RT_LOST_HEARTBEAT = 507010,
    E_RT_AICORE_TIMEOUT = 507014,
    E_RT_AICORE_EXCEPTION = 507015,
    E_RT_AICPU_EXCEPTION = 507018,
    E_RT_DEV_SETUP = 507033,
    E_RT_VECTOR_CORE_EXCEPTION = 507035,
    E_RT_STREAM_SYNC_TIMEOUT = 507046,
    E_RT_EVENT_SYNC_TIMEOUT = 507047,
    E_RT_DEVICE_MEMORY = 507053,
    E_RT_DRIVER = 507899,
};

enum aclDataType : int {
    DT_UNDEFINED = -1,
    DT_FLOAT = 0,
    DT_FLOAT16 = 1,
    DT_INT8 = 2,
    DT_INT32 = 3,
    DT_UINT8 = 4,
    DT_INT16 = 6,
    DT_UINT16 = 7,
    DT_UINT32 = 8,
    DT_INT64 = 9,
    DT_UINT64 = 10,
    DT_DOUBLE = 11,
    DT_BOOL = 12,
    DT_STRING = 13,
    DT_COMPLEX64 = 16,
    DT_COMPLEX128 = 17,
    DT_BF16 = 27,
};

// ---- what libascendcl.so offers to libopapi.so and libhccl.so

// Puts a task into a stream (null: the default stream of the current device). run(argument) is called exactly once, in the
// stream's own thread, or here with CANNSIM_SYNC=1; so it is run that frees the argument. It is called on a stream that has
// failed already, too, where nobody can see what it does. It returns 0, or the status with which the stream fails from
// then on (cannsim_error first says why). It must not throw.
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
// CANNSIM_SOC, such as "Ascend910B3", and whether that is a 910A: no bfloat16, overflow saturates and sets the register.
API const char* cannsim_soc();
API bool cannsim_first_generation();
// The overflow register of the current device.
API void cannsim_overflow_set();
API bool cannsim_overflow_get();
API void cannsim_overflow_clear();
