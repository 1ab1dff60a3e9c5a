// The few operators that the fallback cannot do: memory, copies between devices, and convolution.
#pragma once
#include <ATen/ops/resize_native.h>
#include <ATen/ops/set_native.h>

#include "fallback.h"

namespace npusim {

using c10::SymInt;
using c10::SymIntArrayRef;
using OptionalTensor = std::optional<Tensor>;
constexpr auto kKeys = c10::DispatchKeySet(c10::DispatchKey::PrivateUse1);

// ---------------------------------------------------------------- memory

inline Tensor empty(SymIntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                    std::optional<at::Device> device, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  c10::OptionalDeviceGuard guard(device);
  return at::detail::empty_generic(C10_AS_INTARRAYREF_SLOW(size), &g_allocator, kKeys, c10::dtype_or_default(dtype), format);
}

inline Tensor empty_strided(SymIntArrayRef size, SymIntArrayRef stride, std::optional<at::ScalarType> dtype,
                            std::optional<at::Layout>, std::optional<at::Device> device, std::optional<bool>) {
  c10::OptionalDeviceGuard guard(device);
  return at::detail::empty_strided_generic(C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride), &g_allocator,
                                           kKeys, c10::dtype_or_default(dtype));
}

inline const Tensor& resize_(const Tensor& self, SymIntArrayRef size, std::optional<at::MemoryFormat> format) {
  c10::DeviceGuard guard(self.device());
  return at::native::resize_(self, C10_AS_INTARRAYREF_SLOW(size), format);
}

inline Tensor& set_storage(Tensor& self, at::Storage source) {
  const int64_t length = source.nbytes() / self.dtype().itemsize();
  return at::native::set_storage_cpu_(self, source, 0, {length}, {});
}

inline Tensor& set_storage_part(Tensor& self, at::Storage source, SymInt offset, SymIntArrayRef size, SymIntArrayRef stride) {
  return at::native::set_storage_cpu_(self, source, offset.expect_int(), C10_AS_INTARRAYREF_SLOW(size),
                                      C10_AS_INTARRAYREF_SLOW(stride));
}

inline Tensor& set_tensor(Tensor& self, const Tensor& source) { return at::native::set_tensor_(self, source); }

inline void record_stream(Tensor&, c10::Stream) {}

// ----------------------------------------------------------------- copies

inline Tensor copy_from(const Tensor& source, const Tensor& target, bool) {
  HostViews from, to;   // two of them: the devices differ
  at::AutoDispatchBelowADInplaceOrView guard;
  to.to_host(target).copy_(from.to_host(source));
  return target;
}

inline Tensor copy_from_and_resize(const Tensor& source, const Tensor& target) {
  if (target.sizes() != source.sizes()) at::native::resize_(target, source.sizes());
  return copy_from(source, target, false);
}

// ------------------------------------------------------------ convolution

// For a PrivateUse1 backend PyTorch routes every convolution to these two operators, which have no CPU kernel.
// The CPU's float16 convolution is 5 to 8 times slower than its float32 one, so float16 is computed in float32 and
// rounded; NPUSIM_HALF32=0 takes the CPU's own.
inline bool widens(const Tensor& x) {
  static const char* setting = getenv("NPUSIM_HALF32");
  return x.scalar_type() == at::kHalf && !(setting && setting[0] == '0');
}

inline Tensor cast(const Tensor& t, bool wanted, at::ScalarType dtype) { return wanted && t.defined() ? t.to(dtype) : t; }

inline Tensor convolution(const Tensor& x, const Tensor& weight, const OptionalTensor& bias, SymIntArrayRef stride,
                          SymIntArrayRef padding, SymIntArrayRef dilation, bool transposed, SymIntArrayRef output_padding,
                          SymInt groups) {
  record_op("aten::convolution_overrideable");
  HostViews views;
  at::AutoDispatchBelowADInplaceOrView guard;
  const bool wide = widens(x);
  auto to_host = [&](const Tensor& t) { return cast(views.to_host(t), wide, at::kFloat); };
  const OptionalTensor host_bias = bias && bias->defined() ? OptionalTensor(to_host(*bias)) : std::nullopt;
  const auto y = at::convolution_symint(to_host(x), to_host(weight), host_bias, stride, padding, dilation, transposed,
                                        output_padding, groups);
  return views.to_npu(cast(y, wide, at::kHalf));
}

inline std::tuple<Tensor, Tensor, Tensor> convolution_backward(
    const Tensor& grad, const Tensor& x, const Tensor& weight, SymIntArrayRef stride, SymIntArrayRef padding,
    SymIntArrayRef dilation, bool transposed, SymIntArrayRef output_padding, SymInt groups, std::array<bool, 3> wanted) {
  record_op("aten::convolution_backward_overrideable");
  HostViews views;
  at::AutoDispatchBelowADInplaceOrView guard;
  const bool wide = widens(x);
  auto to_host = [&](const Tensor& t) { return cast(views.to_host(t), wide, at::kFloat); };
  auto to_npu = [&](const Tensor& t) { return views.to_npu(cast(t, wide, at::kHalf)); };
  const std::vector<SymInt> bias_size{transposed ? weight.sym_size(1) * groups : weight.sym_size(0)};
  const auto grads = at::convolution_backward_symint(to_host(grad), to_host(x), to_host(weight), SymIntArrayRef(bias_size),
                                                     stride, padding, dilation, transposed, output_padding, groups, wanted);
  return {to_npu(std::get<0>(grads)), to_npu(std::get<1>(grads)), to_npu(std::get<2>(grads))};
}

} // namespace npusim
