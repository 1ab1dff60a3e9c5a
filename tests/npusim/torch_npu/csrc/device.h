// The devices: which one is current, how much memory each holds, and what PyTorch asks of a backend about them.
#pragma once
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/Resize.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <atomic>
#include <chrono>
#include <map>
#include <mutex>

namespace npusim {

constexpr auto kNPU = c10::DeviceType::PrivateUse1;
constexpr int kMaxDevices = 64;

inline int g_device_count = 1;
inline thread_local int t_current_device = 0;

inline void set_device(int index) {
  TORCH_CHECK(index >= 0 && index < g_device_count, "npusim: there is no NPU ", index, "; ", g_device_count,
              " are simulated (NPUSIM_DEVICES, ASCEND_RT_VISIBLE_DEVICES)");
  t_current_device = index;
}

inline int or_current(int index) { return index < 0 ? t_current_device : index; }

// ------------------------------------------------------------------ memory

// Bytes that tensors of one device hold.
struct MemoryStats {
  std::atomic<int64_t> current{0}, peak{0}, allocations{0};

  void add(int64_t bytes) {
    const int64_t now = current += bytes;
    if (bytes <= 0) return;
    allocations++;
    int64_t seen = peak.load();
    while (now > seen && !peak.compare_exchange_weak(seen, now)) {
    }
  }
};
inline MemoryStats g_memory[kMaxDevices];

// What keeps a storage's memory alive: a block of its own, or a CPU storage that a kernel gave as its result.
struct Block {
  void* own = nullptr;
  c10::DataPtr adopted;
  int64_t bytes = 0;
  int device = 0;

  Block(int64_t bytes, int device) : bytes(bytes), device(device) { g_memory[device].add(bytes); }
  ~Block() {
    g_memory[device].add(-bytes);
    free(own);
  }
  static void destroy(void* block) { delete static_cast<Block*>(block); }
  c10::DataPtr data_ptr(void* memory) { return {memory, this, &destroy, c10::Device(kNPU, (c10::DeviceIndex)device)}; }
};

inline void* host_memory(size_t bytes) {
  void* memory = nullptr;
  if (bytes) TORCH_CHECK(posix_memalign(&memory, 64, bytes) == 0, "npusim: the host has no ", bytes, " bytes left");
  return memory;
}

// A DeviceAllocator rather than a plain one: torch.accelerator.memory_* insists on it.
struct NpuAllocator final : c10::DeviceAllocator {
  c10::DataPtr allocate(size_t bytes) override {
    auto* block = new Block((int64_t)bytes, t_current_device);
    block->own = host_memory(bytes);
    return block->data_ptr(block->own);
  }
  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void* to, const void* from, size_t bytes) const override { memcpy(to, from, bytes); }

  bool initialized() override { return true; }
  void emptyCache(c10::MempoolId_t) override {}
  void recordStream(const c10::DataPtr&, c10::Stream) override {}
  void resetAccumulatedStats(c10::DeviceIndex) override {}
  void resetPeakStats(c10::DeviceIndex index) override { g_memory[index].peak = g_memory[index].current.load(); }
  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex index) override {
    c10::CachingDeviceAllocator::DeviceStats stats;
    stats.allocated_bytes[0].current = g_memory[index].current;
    stats.allocated_bytes[0].peak = g_memory[index].peak;
    stats.reserved_bytes[0] = stats.allocated_bytes[0];
    return stats;
  }
};
inline NpuAllocator g_allocator;

// Pinned memory is ordinary memory whose addresses are remembered, so that is_pinned() can tell.
struct PinnedAllocator final : c10::Allocator {
  static std::mutex& mutex() {
    static std::mutex m;
    return m;
  }
  static std::map<uintptr_t, size_t>& blocks() {   // never destroyed: tensors may outlive the library's statics
    static auto* live = new std::map<uintptr_t, size_t>;
    return *live;
  }
  static void release(void* memory) {
    std::lock_guard<std::mutex> lock(mutex());
    blocks().erase((uintptr_t)memory);
    free(memory);
  }
  static bool owns(const void* address) {
    std::lock_guard<std::mutex> lock(mutex());
    auto next = blocks().upper_bound((uintptr_t)address);
    if (next == blocks().begin()) return false;
    auto block = std::prev(next);
    return (uintptr_t)address < block->first + block->second;
  }

  c10::DataPtr allocate(size_t bytes) override {
    void* memory = host_memory(bytes);
    if (memory) {
      std::lock_guard<std::mutex> lock(mutex());
      blocks()[(uintptr_t)memory] = bytes;
    }
    return {memory, memory, &release, c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t bytes) const override { memcpy(to, from, bytes); }
};
inline PinnedAllocator g_pinned_allocator;

// ------------------------------------------------------- streams and events

// Each device has one stream, and work is done when it is asked for; an event is the time at which it was recorded.
struct Guard final : c10::impl::DeviceGuardImplInterface {
  using Index = c10::DeviceIndex;
  using Clock = std::chrono::steady_clock;

  Guard() = default;
  explicit Guard(c10::DeviceType) {}
  c10::DeviceType type() const override { return kNPU; }

  c10::Device getDevice() const override { return {kNPU, (Index)t_current_device}; }
  void setDevice(c10::Device device) const override {
    if (device.index() >= 0) set_device(device.index());
  }
  void uncheckedSetDevice(c10::Device device) const noexcept override {
    if (device.index() >= 0) t_current_device = device.index();
  }
  c10::Device exchangeDevice(c10::Device device) const override {
    const auto before = getDevice();
    setDevice(device);
    return before;
  }
  Index deviceCount() const noexcept override { return (Index)g_device_count; }

  static c10::Stream stream_of(c10::Device device) {
    return c10::Stream(c10::Stream::DEFAULT, c10::Device(kNPU, (Index)or_current(device.index())));
  }
  c10::Stream getStream(c10::Device device) const override { return stream_of(device); }
  c10::Stream getDefaultStream(c10::Device device) const override { return stream_of(device); }
  c10::Stream getNewStream(c10::Device device, int) const override { return stream_of(device); }
  c10::Stream getStreamFromGlobalPool(c10::Device device, bool) const override { return stream_of(device); }
  c10::Stream exchangeStream(c10::Stream stream) const override { return stream_of(stream.device()); }
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override {}
  void synchronizeDevice(const Index) const override {}
  void recordDataPtrOnStream(const c10::DataPtr&, const c10::Stream&) const override {}

  void record(void** event, const c10::Stream&, const Index, const c10::EventFlag) const override {
    if (!*event) *event = new Clock::time_point;
    *static_cast<Clock::time_point*>(*event) = Clock::now();
  }
  void destroyEvent(void* event, const Index) const noexcept override { delete static_cast<Clock::time_point*>(event); }
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void synchronizeEvent(void*) const override {}
  double elapsedTime(void* start, void* end, const Index) const override {
    TORCH_CHECK(start && end, "Both events must be recorded before calculating elapsed time.");
    const auto passed = *static_cast<Clock::time_point*>(end) - *static_cast<Clock::time_point*>(start);
    return std::chrono::duration<double, std::milli>(passed).count();
  }
};

} // namespace npusim
