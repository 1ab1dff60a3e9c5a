// Random numbers: each device has a generator of its own, as on hardware, so drawing on one never moves the CPU's.
#pragma once
#include <ATen/CPUGeneratorImpl.h>

#include "device.h"

namespace npusim {

// The numbers come from a CPU generator that this one owns.
struct NpuGenerator final : c10::GeneratorImpl {
  at::Generator source;

  explicit NpuGenerator(int index)
      : GeneratorImpl(c10::Device(kNPU, (c10::DeviceIndex)index), c10::DispatchKeySet(c10::DispatchKey::PrivateUse1)),
        source(at::detail::createCPUGenerator(c10::default_rng_seed_val)) {}

  static c10::DeviceType device_type() { return kNPU; }
  void set_current_seed(uint64_t seed) override { source.set_current_seed(seed); }
  uint64_t current_seed() const override { return source.current_seed(); }
  uint64_t seed() override { return source.seed(); }
  void set_offset(uint64_t) override {}
  uint64_t get_offset() const override { return 0; }
  void set_state(const c10::TensorImpl& state) override { source.unsafeGetGeneratorImpl()->set_state(state); }
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override { return source.unsafeGetGeneratorImpl()->get_state(); }
  NpuGenerator* clone_impl() const override {
    auto* copy = new NpuGenerator(device_.index());
    copy->source = source.clone();
    return copy;
  }
};

inline at::Generator& cpu_source(const at::Generator& generator) {
  return static_cast<NpuGenerator*>(generator.unsafeGetGeneratorImpl())->source;
}

inline const at::Generator& default_generator(int index) {
  static auto* generators = [] {
    auto* made = new std::vector<at::Generator>;
    for (int i = 0; i < kMaxDevices; i++) made->push_back(at::make_generator<NpuGenerator>(i));
    return made;
  }();
  return (*generators)[or_current(index)];
}

// While one lives, a CPU kernel that draws from the CPU's default generator draws from the device's numbers instead:
// the two generators have exchanged their engines and the halves of the normal pairs that they still keep.
class BorrowedNumbers {
 public:
  BorrowedNumbers(int index, bool wanted) {
    if (!wanted) return;
    cpu_ = impl(at::detail::getDefaultCPUGenerator());
    device_ = impl(cpu_source(default_generator(index)));
    exchange();
  }
  ~BorrowedNumbers() {
    if (cpu_) exchange();
  }

 private:
  static at::CPUGeneratorImpl* impl(const at::Generator& g) {
    return static_cast<at::CPUGeneratorImpl*>(g.unsafeGetGeneratorImpl());
  }
  void exchange() {
    std::scoped_lock lock(cpu_->mutex_, device_->mutex_);
    const auto engine = cpu_->engine();
    const auto half_float = cpu_->next_float_normal_sample();
    const auto half_double = cpu_->next_double_normal_sample();
    cpu_->set_engine(device_->engine());
    cpu_->set_next_float_normal_sample(device_->next_float_normal_sample());
    cpu_->set_next_double_normal_sample(device_->next_double_normal_sample());
    device_->set_engine(engine);
    device_->set_next_float_normal_sample(half_float);
    device_->set_next_double_normal_sample(half_double);
  }
  at::CPUGeneratorImpl *cpu_ = nullptr, *device_ = nullptr;
};

// What PyTorch asks of a backend outside of any operator.
struct Hooks final : at::PrivateUse1HooksInterface {
  using Index = c10::DeviceIndex;

  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return g_device_count > 0; }
  bool hasPrimaryContext(Index) const override { return true; }
  Index deviceCount() const override { return (Index)g_device_count; }
  void setCurrentDevice(Index index) const override { set_device(index); }
  Index getCurrentDevice() const override { return (Index)t_current_device; }
  Index exchangeDevice(Index index) const override {
    const auto before = getCurrentDevice();
    set_device(index);
    return before;
  }
  Index maybeExchangeDevice(Index index) const override {
    const auto before = getCurrentDevice();
    if (index >= 0 && index < g_device_count) t_current_device = index;
    return before;
  }
  const at::Generator& getDefaultGenerator(Index index) const override { return default_generator(index); }
  at::Generator getNewGenerator(Index index) const override { return at::make_generator<NpuGenerator>(or_current(index)); }
  at::Device getDeviceFromPtr(void*) const override { return {kNPU, (Index)t_current_device}; }
  bool isPinnedPtr(const void* address) const override { return PinnedAllocator::owns(address); }
  at::Allocator* getPinnedMemoryAllocator() const override { return &g_pinned_allocator; }
  void resizePrivateUse1Bytes(const c10::Storage& storage, size_t bytes) const override {
    at::native::resize_bytes_cpu(storage.unsafeGetStorageImpl(), bytes);
  }
};

} // namespace npusim
