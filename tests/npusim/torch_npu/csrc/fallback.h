// Every operator without a kernel of its own: run the CPU's on host views of the arguments.
#pragma once
#include <ATen/core/LegacyTypeDispatch.h>
#include <torch/library.h>

#include <set>
#include <unordered_set>

#include "generator.h"
#include "host_view.h"

namespace npusim {

// ----------------------------------------------------------- operator log

inline std::atomic<bool> g_recording{false};
inline std::mutex g_recorded_mutex;
inline std::map<std::string, int64_t> g_recorded;

inline void record_op(const std::string& name) {
  if (!g_recording) return;
  std::lock_guard<std::mutex> lock(g_recorded_mutex);
  g_recorded[name]++;
}

// ------------------------------------------------------- device check

// These take a CPU tensor beside a device tensor on every backend.
inline const std::unordered_set<std::string> kMixesDevices = {
    "aten::index", "aten::_unsafe_index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_",
    "aten::_unsafe_index_put", "aten::_pack_padded_sequence", "aten::set_", "aten::_foreach_copy_"};

// The CPU kernel sees only CPU tensors, so a forgotten .to(device) has to be found here, with PyTorch's own sentence.
inline void check_same_device(const c10::FunctionSchema& schema, const Tensors& arguments) {
  if (kMixesDevices.count(schema.name())) return;
  std::optional<c10::Device> first;
  for (auto& t : arguments) {
    if (!t.defined() || (t.device().is_cpu() && t.dim() == 0)) continue;   // a CPU scalar goes with every device
    if (!first) first = t.device();
    TORCH_CHECK(*first == t.device(), "Expected all tensors to be on the same device, but found at least two devices, ",
                *first, " and ", t.device(), "! (when calling ", schema.name(), ")");
  }
}

// ------------------------------------------------------------- fallback

using Values = at::ArrayRef<c10::IValue>;

inline Tensors tensors_of(Values values) {
  Tensors found;
  for (auto& v : values) {
    if (v.isTensor()) found.push_back(v.toTensor());
    else if (v.isTensorList())
      for (const Tensor& t : v.toTensorVector()) found.push_back(t);
  }
  return found;
}

inline c10::IValue to_host(HostViews& views, const c10::IValue& v, bool written) {
  if (v.isTensor()) return views.to_host(v.toTensor(), written);
  if (v.isTensorList()) {
    c10::List<Tensor> list;
    for (const Tensor& t : v.toTensorVector()) list.push_back(views.to_host(t, written));
    return list;
  }
  if (v.isOptionalTensorList()) {
    c10::List<std::optional<Tensor>> list;
    for (const auto& t : v.toOptionalTensorVector())
      list.push_back(t ? std::optional<Tensor>(views.to_host(*t, written)) : std::nullopt);
    return list;
  }
  if (v.isDevice() && v.toDevice().type() == kNPU) {
    if (views.device < 0) views.device = or_current(v.toDevice().index());
    return c10::Device(c10::kCPU);
  }
  if (v.isGenerator() && v.toGenerator().defined() && v.toGenerator().device().type() == kNPU)
    return cpu_source(v.toGenerator());
  return v;
}

inline c10::IValue to_npu(HostViews& views, const c10::IValue& v) {
  if (v.isTensor()) return views.to_npu(v.toTensor());
  if (v.isTensorList()) {
    c10::List<Tensor> list;
    for (const Tensor& t : v.toTensorVector()) list.push_back(views.to_npu(t));
    return list;
  }
  return v;
}

inline void fallback(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto& schema = op.schema();
  record_op(c10::toString(op.operator_name()));
  const size_t begin = stack->size() - schema.arguments().size();
  check_same_device(schema, tensors_of(Values(*stack).slice(begin)));

  HostViews views;
  for (size_t i = begin; i < stack->size(); i++) {
    const auto* alias = schema.arguments()[i - begin].alias_info();
    (*stack)[i] = to_host(views, (*stack)[i], alias && alias->isWrite());
  }
  if (views.device < 0) views.device = t_current_device;
  {
    BorrowedNumbers numbers(views.device, op.hasTag(at::Tag::nondeterministic_seeded));
    op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
  }
  views.carry_back();
  for (size_t i = stack->size() - schema.returns().size(); i < stack->size(); i++)
    (*stack)[i] = to_npu(views, (*stack)[i]);
}

} // namespace npusim
