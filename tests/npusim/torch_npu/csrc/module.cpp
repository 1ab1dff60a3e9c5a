// Registers the simulated device 'npu' (PrivateUse1) with PyTorch, and gives torch_npu/ what it needs of it.
#include <ATen/autocast_mode.h>
#include <torch/csrc/utils/device_lazy_init.h>
#include <torch/extension.h>

#include "device.h"
#include "fallback.h"
#include "generator.h"
#include "hccl.h"
#include "host_view.h"
#include "kernels.h"

namespace npusim {

REGISTER_ALLOCATOR(kNPU, &g_allocator);
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&fallback>()); }

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", &empty);
  m.impl("empty_strided", &empty_strided);
  m.impl("resize_", &resize_);
  m.impl("set_.source_Storage", &set_storage);
  m.impl("set_.source_Storage_storage_offset", &set_storage_part);
  m.impl("set_.source_Tensor", &set_tensor);
  m.impl("record_stream", &record_stream);
  m.impl("_copy_from", &copy_from);
  m.impl("_copy_from_and_resize", &copy_from_and_resize);
  // these also have a composition out of smaller operators, which PyTorch would prefer to the fallback; a device has kernels
  for (const char* name : {"native_layer_norm", "native_group_norm", "silu_backward", "mish_backward", "addr", "any.dims", "all.dims"})
    m.impl(name, torch::CppFunction::makeFromBoxedFunction<&fallback>());
  m.impl("convolution_overrideable", &convolution);
  m.impl("convolution_backward_overrideable", &convolution_backward);
}

} // namespace npusim

namespace c10d {
C10_REGISTER_TYPED_CLASS(TimerRegistry, c10::kPrivateUse1, npusim::NpuTimer);
}

namespace at::autocast {   // PyTorch's macros name what they use without this namespace

#define LOWER_PRECISION(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, lower_precision_fp)
#define FLOAT32(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, fp32)
#define FLOAT32_UNLESS_ASKED(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, fp32_set_opt_dtype)
#define WIDEST(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, promote)

TORCH_LIBRARY_IMPL(_, AutocastPrivateUse1, m) { m.fallback(torch::CppFunction::makeFallthrough()); }

TORCH_LIBRARY_IMPL(aten, AutocastPrivateUse1, m) {   // CUDA's lists, as Ascend's are
  AT_FORALL_LOWER_PRECISION_FP(LOWER_PRECISION)
  AT_FORALL_FP32(FLOAT32)
  AT_FORALL_FP32_SET_OPT_DTYPE(FLOAT32_UNLESS_ASKED)
  AT_FORALL_DIFFERENT_REDISPATCH_SIGNATURE(KERNEL_DIFFERENT_REDISPATCH_SIGNATURE_PRIVATEUSEONE)
  AT_FORALL_PROMOTE(WIDEST)
}

} // namespace at::autocast

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  using namespace npusim;
  m.def("init", [](int devices) {
    TORCH_CHECK(devices >= 0 && devices <= kMaxDevices, "npusim: NPUSIM_DEVICES must be 0 to ", kMaxDevices);
    g_device_count = devices;
    at::RegisterPrivateUse1HooksInterface(new Hooks);   // lives as long as the process
    torch::utils::register_fork_handler_for_device_init(kNPU);   // a forked child asks torch.npu._lazy_init again
  });
  m.def("device_count", [] { return g_device_count; });
  m.def("current_device", [] { return t_current_device; });
  m.def("set_device", &set_device);
  m.def("exchange_device", [](int index) {
    const int before = t_current_device;
    if (index >= 0) set_device(index);
    return before;
  });
  m.def("default_generator", &default_generator);
  m.def("memory", [](int index) {
    const auto& stats = g_memory[index];
    return std::make_tuple(stats.current.load(), stats.peak.load(), stats.allocations.load());
  });
  m.def("reset_peak_memory", [](int index) { g_allocator.resetPeakStats((c10::DeviceIndex)index); });
  m.def("record_op", &record_op);
  m.def("record_ops", [](bool on) { g_recording = on; });
  m.def("recorded_ops", [] {
    std::lock_guard<std::mutex> lock(g_recorded_mutex);
    return std::exchange(g_recorded, {});
  });
  m.def("hccl", [](c10::intrusive_ptr<c10d::Backend> gloo, int rank, int size) -> c10::intrusive_ptr<c10d::Backend> {
    return c10::make_intrusive<HcclBackend>(std::move(gloo), rank, size);
  });
}
