// Devices: how many there are, which one is current, what they say of themselves, and one that is lost.
#include <unistd.h>

#include <array>
#include <cstring>

#include "runtime.h"

namespace cannsim {
namespace {
thread_local int t_device = -1;
constexpr int cube_cores = 20, vector_cores = 40, first_generation_cores = 32;
constexpr int64_t cache_bytes = 192 << 20;

int cores(bool vector) {
    return cannsim_first_generation() ? first_generation_cores : vector ? vector_cores : cube_cores;
}

bool exists(int64_t index) { return index >= 0 && index < int64_t(settings().cards.size()); }

aclError no_device(int64_t index) {
    return fail(E_RT_DEVICE, "there is no device " + std::to_string(index) + "; " +
                                 std::to_string(settings().cards.size()) + " are visible");
}
}  // namespace

Device& device(int index) {
    static auto* all = new std::array<Device, 64>;  // never destroyed: streams still run when the process ends
    return (*all)[index];
}

int current_device() { return t_device; }
void set_current_device(int index) { t_device = index; }

Failure loss_of(int index) {
    if (index < 0 || !device(index).is_lost) return {};
    std::lock_guard<std::mutex> guard(device(index).mutex);
    return device(index).lost;
}

}  // namespace cannsim

using namespace cannsim;

API int cannsim_device() { return t_device; }
API void cannsim_overflow_set() { device(t_device).overflow = true; }
API bool cannsim_overflow_get() { return device(t_device).overflow; }
API void cannsim_overflow_clear() { device(t_device).overflow = false; }

API aclError aclrtGetDeviceCount(uint32_t* count) {
    *count = uint32_t(settings().cards.size());
    return *count ? OK : fail(ACL_ERROR_RT_NO_DEVICE, "no device is visible");
}

API aclError aclrtSetDevice(int32_t index) {
    if (!exists(index)) return no_device(index);
    if (auto failure = busy(settings().cards[index])) return report(failure);
    t_device = index;
    return OK;
}

API aclError aclrtGetDevice(int32_t* index) {
    if (t_device < 0) return fail(E_NO_CONTEXT, "aclrtGetDevice before aclrtSetDevice");
    *index = t_device;
    return OK;
}

API aclError aclrtResetDevice(int32_t index) {
    if (!exists(index)) return no_device(index);
    wait_for_device(index);
    return OK;
}

// A context is the device's number plus one: there is one for each device, and null is none.
API aclError aclrtGetCurrentContext(aclrtContext* context) {
    if (t_device < 0) return fail(E_NO_CONTEXT, "no current context before aclrtSetDevice");
    *context = reinterpret_cast<aclrtContext>(intptr_t(t_device) + 1);
    return OK;
}

API aclError aclrtSetCurrentContext(aclrtContext context) {
    t_device = int(reinterpret_cast<intptr_t>(context)) - 1;
    return OK;
}

API aclError aclrtGetPrimaryCtxState(int32_t index, uint32_t* flags, int32_t* active) {
    if (flags) *flags = 0;
    *active = t_device == index;
    return OK;
}

API aclError aclrtGetLogicDevIdByUserDevId(const int32_t index, int32_t* const card) {
    if (!exists(index)) return no_device(index);
    *card = settings().cards[index];
    return OK;
}

API aclError aclrtDeviceCanAccessPeer(int32_t* can, int32_t one, int32_t other) {
    *can = one != other;
    return OK;
}
API aclError aclrtDeviceEnablePeerAccess(int32_t, uint32_t) { return OK; }
API aclError aclrtDeviceGetBareTgid(int32_t* pid) {
    *pid = getpid();
    return OK;
}

API aclError aclGetDeviceCapability(uint32_t, aclDeviceInfo what, int64_t* value) {
    *value = what == ACL_DEVICE_INFO_L2_SIZE ? cache_bytes : cores(what == ACL_DEVICE_INFO_VECTOR_CORE_NUM);
    return OK;
}

API aclError aclrtGetDeviceInfo(uint32_t index, aclrtDevAttr what, int64_t* value) {
    switch (int(what)) {
        case ACL_DEV_ATTR_AICPU_CORE_NUM: *value = 6; break;
        case ACL_DEV_ATTR_AICORE_CORE_NUM:
        case ACL_DEV_ATTR_CUBE_CORE_NUM: *value = cores(false); break;
        case ACL_DEV_ATTR_VECTOR_CORE_NUM: *value = cores(true); break;
        case ACL_DEV_ATTR_TOTAL_GLOBAL_MEM_SIZE: *value = int64_t(settings().memory); break;
        case ACL_DEV_ATTR_L2_CACHE_SIZE: *value = cache_bytes; break;
        case ACL_DEV_ATTR_PHY_CHIP_ID: *value = exists(index) ? settings().cards[index] : 0; break;
        default: *value = 0;
    }
    return OK;
}

API aclError aclrtDeviceGetUuid(int32_t index, aclrtUuid* uuid) {
    if (!exists(index)) return no_device(index);
    memset(uuid->bytes, 0, sizeof uuid->bytes);
    uuid->bytes[15] = char(settings().cards[index]);
    return OK;
}

API aclError aclrtGetDeviceUtilizationRate(int32_t, aclrtUtilizationInfo* rates) {
    rates->cubeUtilization = rates->vectorUtilization = rates->aicpuUtilization = rates->memoryUtilization = 0;
    return OK;
}

// ---- how many cores may be used: told and not kept

static aclError core_limit(aclrtDevResLimitType type, uint32_t* value) {
    *value = uint32_t(cores(type == ACL_RT_DEV_RES_VECTOR_CORE));
    return OK;
}
API aclError aclrtGetDeviceResLimit(int32_t, aclrtDevResLimitType t, uint32_t* value) { return core_limit(t, value); }
API aclError aclrtGetStreamResLimit(aclrtStream, aclrtDevResLimitType t, uint32_t* v) { return core_limit(t, v); }
API aclError aclrtGetResInCurrentThread(aclrtDevResLimitType t, uint32_t* value) { return core_limit(t, value); }
API aclError aclrtSetDeviceResLimit(int32_t, aclrtDevResLimitType, uint32_t) { return OK; }
API aclError aclrtResetDeviceResLimit(int32_t) { return OK; }
API aclError aclrtSetStreamResLimit(aclrtStream, aclrtDevResLimitType, uint32_t) { return OK; }
API aclError aclrtResetStreamResLimit(aclrtStream) { return OK; }
API aclError aclrtUseStreamResInCurrentThread(aclrtStream) { return OK; }
API aclError aclrtUnuseStreamResInCurrentThread(aclrtStream) { return OK; }

// ---- repair of a broken device: there is nothing to repair

API aclError aclrtDeviceTaskAbort(int32_t, uint32_t) { return OK; }
API aclError aclrtRepairError(int32_t, const aclrtErrorInfo*) { return OK; }
API aclError aclrtGetMemUceInfo(int32_t, aclrtMemUceInfo*, size_t, size_t* found) {
    *found = 0;
    return OK;
}
API aclError aclrtMemUceRepair(int32_t, aclrtMemUceInfo*, size_t) { return OK; }
