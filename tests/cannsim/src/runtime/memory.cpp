// Memory of the devices (it is host memory), pinned memory of the host, and copies.
//
// What was not written since aclrtMalloc gave it reads as 0xFF bytes, which is NaN in every floating type, and so does
// what was freed: a block is a private mapping of one small file of 0xFF, so it costs nothing until it is written.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>

#include "runtime.h"

namespace cannsim {
namespace {

constexpr size_t poison_bytes = 8 << 20;   // the length of the file; longer blocks map it again and again
constexpr size_t freed_blocks_kept = 256;  // so many freed blocks stay readable, as poison

struct Block {
    size_t bytes;
    int device;
};

struct Memory {
    std::mutex mutex;
    std::map<const char*, Block> blocks, pinned;  // by address
    std::deque<std::pair<void*, size_t>> freed;
};
Memory& memory() {
    static auto* all = new Memory;
    return *all;
}

int poison_file() {
    static const int file = [] {
        int made = memfd_create("cannsim poison", MFD_CLOEXEC);
        std::string page(1 << 20, '\xff');
        for (size_t at = 0; made >= 0 && at < poison_bytes; at += page.size()) {
            if (pwrite(made, page.data(), page.size(), off_t(at)) != ssize_t(page.size())) return -1;
        }
        return made;
    }();
    return file;
}

bool lay_poison(char* at, size_t bytes) {
    for (size_t done = 0; done < bytes; done += poison_bytes) {
        size_t n = std::min(poison_bytes, bytes - done);
        void* got =
            mmap(at + done, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, poison_file(), 0);
        if (got == MAP_FAILED) return false;
    }
    return true;
}

char* reserve(size_t bytes) {
    void* got = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return got == MAP_FAILED ? nullptr : static_cast<char*>(got);
}

// -> the block (of device or pinned memory) that holds the address, or null
const Block* block_of(const std::map<const char*, Block>& blocks, const void* address) {
    auto next = blocks.upper_bound(static_cast<const char*>(address));
    if (next == blocks.begin()) return nullptr;
    auto& [begin, block] = *std::prev(next);
    return static_cast<const char*>(address) < begin + block.bytes ? &block : nullptr;
}

bool take(int index, size_t bytes) {
    auto& d = device(index);
    std::lock_guard<std::mutex> guard(d.mutex);
    if (d.used + bytes > settings().memory) return false;
    d.used += bytes;
    d.peak = std::max(d.peak, d.used);
    return true;
}

void give_back(int index, size_t bytes) {
    std::lock_guard<std::mutex> guard(device(index).mutex);
    device(index).used -= bytes;
}

aclError out_of_memory(size_t bytes) {
    return fail(E_OOM, "EL0004: " + std::to_string(bytes) + " bytes of device memory cannot be allocated");
}

// What was freed stays readable for a while: a task that still reads it gets NaN, not a crash.
void keep_freed(void* address, size_t bytes) {
    lay_poison(static_cast<char*>(address), bytes);
    memory().freed.emplace_back(address, bytes);
    if (memory().freed.size() <= freed_blocks_kept) return;
    munmap(memory().freed.front().first, memory().freed.front().second);
    memory().freed.pop_front();
}

Copy direction_of(const void* to, const void* from) {
    std::lock_guard<std::mutex> guard(memory().mutex);
    bool into = block_of(memory().blocks, to), out = block_of(memory().blocks, from);
    if (into) return out ? Copy::device_to_device : Copy::host_to_device;
    return out ? Copy::device_to_host : Copy::host_to_host;
}

bool pinned_or_device(const void* address) {
    std::lock_guard<std::mutex> guard(memory().mutex);
    return block_of(memory().blocks, address) || block_of(memory().pinned, address);
}

}  // namespace
}  // namespace cannsim

using namespace cannsim;

// ---- device memory

API aclError aclrtMalloc(void** address, size_t bytes, aclrtMemMallocPolicy) {
    int index = current_device();
    if (index < 0) return fail(E_NO_CONTEXT, "aclrtMalloc before aclrtSetDevice");
    if (auto lost = loss_of(index)) return report(lost);
    if (!bytes) return fail(E_PARAM, "aclrtMalloc of 0 bytes");
    if (malloc_fails() || !take(index, bytes)) return out_of_memory(bytes);
    char* made = reserve(bytes);
    if (!made || !lay_poison(made, bytes)) {
        give_back(index, bytes);
        return out_of_memory(bytes);
    }
    std::lock_guard<std::mutex> guard(memory().mutex);
    memory().blocks[made] = {bytes, index};
    *address = made;
    return OK;
}

API aclError aclrtMallocAlign32(void** address, size_t bytes, aclrtMemMallocPolicy policy) {
    return aclrtMalloc(address, bytes, policy);
}

API aclError aclrtFree(void* address) {
    std::lock_guard<std::mutex> guard(memory().mutex);
    auto found = memory().blocks.find(static_cast<char*>(address));
    if (found == memory().blocks.end()) return fail(E_PARAM, "aclrtFree of what aclrtMalloc did not give");
    give_back(found->second.device, found->second.bytes);
    keep_freed(address, found->second.bytes);
    memory().blocks.erase(found);
    return OK;
}

API aclError aclrtGetMemInfo(aclrtMemAttr, size_t* left, size_t* total) {
    int index = current_device();
    if (index < 0) return fail(E_NO_CONTEXT, "aclrtGetMemInfo before aclrtSetDevice");
    if (auto lost = loss_of(index)) return report(lost);
    std::lock_guard<std::mutex> guard(device(index).mutex);
    *total = settings().memory;
    *left = *total - device(index).used;
    return OK;
}

API aclError aclrtGetMemUsageInfo(int32_t, aclrtMemUsageInfo*, size_t, size_t* count) {
    *count = 0;  // of the modules of CANN beside torch_npu, which are none
    return OK;
}

API aclError aclrtPointerGetAttributes(const void* address, aclrtPtrAttributes* attributes) {
    std::lock_guard<std::mutex> guard(memory().mutex);
    memset(attributes, 0, sizeof *attributes);
    attributes->location.type = ACL_MEM_LOCATION_TYPE_UNREGISTERED;
    if (auto* block = block_of(memory().blocks, address)) {
        attributes->location = {uint32_t(block->device), ACL_MEM_LOCATION_TYPE_DEVICE};
    } else if (block_of(memory().pinned, address)) {
        attributes->location.type = ACL_MEM_LOCATION_TYPE_HOST;
    }
    return OK;
}

// ---- device memory in two halves, as expandable segments want it: addresses, and what lies there

struct Physical {
    size_t bytes;
    int device;
};

API aclError aclrtReserveMemAddress(void** address, size_t bytes, size_t, void*, uint64_t) {
    char* made = reserve(bytes);
    if (!made) return out_of_memory(bytes);
    std::lock_guard<std::mutex> guard(memory().mutex);
    memory().blocks[made] = {bytes, current_device()};
    *address = made;
    return OK;
}

API aclError aclrtReleaseMemAddress(void* address) {
    std::lock_guard<std::mutex> guard(memory().mutex);
    auto found = memory().blocks.find(static_cast<char*>(address));
    if (found == memory().blocks.end()) return fail(E_PARAM, "aclrtReleaseMemAddress of what was not reserved");
    munmap(address, found->second.bytes);
    memory().blocks.erase(found);
    return OK;
}

API aclError aclrtMallocPhysical(aclrtDrvMemHandle* handle, size_t bytes, const aclrtPhysicalMemProp*, uint64_t) {
    int index = current_device();
    if (index < 0) return fail(E_NO_CONTEXT, "aclrtMallocPhysical before aclrtSetDevice");
    if (malloc_fails() || !take(index, bytes)) return out_of_memory(bytes);
    *handle = new Physical{bytes, index};
    return OK;
}

API aclError aclrtFreePhysical(aclrtDrvMemHandle handle) {
    auto* physical = static_cast<Physical*>(handle);
    give_back(physical->device, physical->bytes);
    delete physical;
    return OK;
}

API aclError aclrtMapMem(void* address, size_t bytes, size_t offset, aclrtDrvMemHandle, uint64_t) {
    return lay_poison(static_cast<char*>(address) + offset, bytes) ? OK : fail(E_PARAM, "aclrtMapMem of no such range");
}
API aclError aclrtUnmapMem(void*) { return OK; }

// ---- pinned memory of the host

API aclError aclrtMallocHost(void** address, size_t bytes) {
    if (posix_memalign(address, 4096, std::max<size_t>(bytes, 1))) return fail(E_OOM, "no memory of the host is left");
    memset(*address, 0xff, bytes);
    std::lock_guard<std::mutex> guard(memory().mutex);
    memory().pinned[static_cast<char*>(*address)] = {bytes, -1};
    return OK;
}

API aclError aclrtMallocHostWithCfg(void** address, uint64_t bytes, aclrtMallocConfig*) {
    return aclrtMallocHost(address, bytes);
}

API aclError aclrtFreeHost(void* address) {
    std::lock_guard<std::mutex> guard(memory().mutex);
    auto found = memory().pinned.find(static_cast<char*>(address));
    if (found == memory().pinned.end()) return fail(E_PARAM, "aclrtFreeHost of what aclrtMallocHost did not give");
    memset(address, 0xff, found->second.bytes);
    memory().pinned.erase(found);
    free(address);
    return OK;
}

API aclError aclrtHostRegisterV2(void* address, uint64_t bytes, uint32_t) {
    std::lock_guard<std::mutex> guard(memory().mutex);
    memory().pinned[static_cast<char*>(address)] = {bytes, -1};
    return OK;
}

API aclError aclrtHostRegister(void* address, uint64_t bytes, aclrtHostRegisterType, void** device_address) {
    if (device_address) *device_address = address;
    return aclrtHostRegisterV2(address, bytes, 0);
}

API aclError aclrtHostUnregister(void* address) {
    std::lock_guard<std::mutex> guard(memory().mutex);
    memory().pinned.erase(static_cast<char*>(address));
    return OK;
}

// ---- copies

static aclError check_copy(const char* name, size_t room, size_t bytes) {
    if (bytes > room) return fail(E_PARAM, std::string(name) + ": the destination is too small");
    if (auto lost = loss_of(current_device())) return report(lost);
    return OK;
}

// At once, without regard to what still runs in a stream: torch_npu has waited before, or the copy is wrong.
API aclError aclrtMemcpy(void* to, size_t room, const void* from, size_t bytes, aclrtMemcpyKind) {
    if (auto status = check_copy("aclrtMemcpy", room, bytes)) return status;
    count_copy(direction_of(to, from), bytes);
    count_sync(Sync::copy);
    memcpy(to, from, bytes);
    return OK;
}

API aclError aclrtMemcpyAsync(void* to, size_t room, const void* from, size_t bytes, aclrtMemcpyKind,
                              aclrtStream stream) {
    if (auto status = check_copy("aclrtMemcpyAsync", room, bytes)) return status;
    aclError status;
    auto* in = usable_stream(stream, "aclrtMemcpyAsync", &status);
    if (!in) return status;
    count_copy(direction_of(to, from), bytes);
    return report(in->put([=] { return memcpy(to, from, bytes), OK; }, "MEMCPY_ASYNC"));
}

// Waits for memory of the host that is not pinned.
API aclError aclrtMemcpyAsyncWithCondition(void* to, size_t room, const void* from, size_t bytes, aclrtMemcpyKind kind,
                                           aclrtStream stream) {
    auto status = aclrtMemcpyAsync(to, room, from, bytes, kind, stream);
    if (status || (pinned_or_device(to) && pinned_or_device(from))) return status;
    count_sync(Sync::copy);
    return report(stream_of(stream)->wait());
}

API aclError aclrtMemcpyBatchAsync(void** to, size_t* room, void** from, size_t* bytes, size_t count,
                                   aclrtMemcpyBatchAttr*, size_t*, size_t, size_t* failed, aclrtStream stream) {
    for (size_t i = 0; i < count; ++i) {
        auto status = aclrtMemcpyAsync(to[i], room[i], from[i], bytes[i], ACL_MEMCPY_DEFAULT, stream);
        if (status && failed) *failed = i;
        if (status) return status;
    }
    return OK;
}

API aclError aclrtMemset(void* at, size_t room, int32_t value, size_t bytes) {
    if (auto status = check_copy("aclrtMemset", room, bytes)) return status;
    memset(at, value, bytes);
    return OK;
}

API aclError aclrtMemsetAsync(void* at, size_t room, int32_t value, size_t bytes, aclrtStream stream) {
    if (auto status = check_copy("aclrtMemsetAsync", room, bytes)) return status;
    aclError status;
    auto* in = usable_stream(stream, "aclrtMemsetAsync", &status);
    if (!in) return status;
    return report(in->put([=] { return memset(at, value, bytes), OK; }, "MEMSET_ASYNC"));
}

API aclError aclrtCmoAsync(void*, size_t, aclrtCmoType, aclrtStream) { return OK; }  // a hint to the cache
