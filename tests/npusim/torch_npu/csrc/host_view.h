// The two views of one memory: a device tensor as the CPU kernels see it, and a kernel's result as a device tensor.
#pragma once
#include <ATen/ATen.h>

#include "device.h"

namespace npusim {

using at::Tensor;
using Tensors = std::vector<Tensor>;

inline bool on_npu(const Tensor& t) { return t.defined() && t.device().type() == kNPU; }

// The tensors of one operator call. Nothing is copied: a host view is a CPU tensor over the same address, and one storage
// has one host view, so that arguments that overlap still do.
class HostViews {
 public:
  // The device of the call: that of its first NPU argument, or what `on` says; -1 before either.
  int device = -1;

  Tensor to_host(const Tensor& t, bool written = false) {
    if (!on_npu(t)) return t;
    if (device < 0) device = t.device().index();
    for (auto& known : tensors_)
      if (known.npu.is_same(t)) {
        known.written |= written;
        return known.host;
      }
    Tensor host = like(t, c10::Storage(host_storage(t.storage().unsafeGetStorageImpl())), c10::DispatchKey::CPU);
    tensors_.push_back({t, host, written});
    return host;
  }

  Tensors to_host(const Tensors& list) {
    Tensors out;
    for (auto& t : list) out.push_back(to_host(t));
    return out;
  }

  // A result that is an argument is that argument; one that shares an argument's memory is a view of it; any other one
  // hands its memory over.
  Tensor to_npu(const Tensor& t) {
    if (!t.defined() || t.device().type() != c10::kCPU) return t;
    for (auto& known : tensors_)
      if (known.host.is_same(t)) return known.npu;
    return like(t, npu_storage(t.storage().unsafeGetStorageImpl()), c10::DispatchKey::PrivateUse1);
  }

  // After the call: what it did to the storage and the shape of the arguments it wrote (resize_, out=, unsqueeze_, t_).
  void carry_back() {
    for (auto& s : storages_) {
      if (s.host->data() == s.npu->data() && s.host->nbytes() == s.npu->nbytes()) continue;
      const auto bytes = s.host->nbytes();
      s.npu->set_data_ptr(adopt(s.host.get()));
      s.npu->set_nbytes(bytes);
    }
    for (auto& t : tensors_) {
      const bool same = t.npu.sizes() == t.host.sizes() && t.npu.strides() == t.host.strides() &&
                        t.npu.storage_offset() == t.host.storage_offset();
      if (t.written && !same)
        t.npu.unsafeGetTensorImpl()->set_sizes_and_strides(t.host.sizes(), t.host.strides(), t.host.storage_offset());
    }
  }

 private:
  using StorageRef = c10::intrusive_ptr<c10::StorageImpl>;
  struct StoragePair {
    c10::StorageImpl* npu;   // its tensor in tensors_ holds it
    StorageRef host;
  };
  struct TensorPair {
    Tensor npu, host;
    bool written;
  };
  std::vector<StoragePair> storages_;
  std::vector<TensorPair> tensors_;
  // Holds the host storages, too: once one is freed, the next result's could be at its address and be taken for it.
  std::vector<std::pair<StorageRef, c10::Storage>> adopted_;

  // A tensor over `storage` with the shape, dtype and bits of `t`.
  static Tensor like(const Tensor& t, c10::Storage storage, c10::DispatchKey key) {
    auto impl = c10::make_intrusive<c10::TensorImpl>(std::move(storage), c10::DispatchKeySet(key), t.dtype());
    impl->set_sizes_and_strides(t.sizes(), t.strides(), t.storage_offset());
    Tensor out(std::move(impl));
    if (t.is_conj()) out._set_conj(true);
    if (t.is_neg()) out._set_neg(true);
    return out;
  }

  StorageRef host_storage(c10::StorageImpl* npu) {
    for (auto& s : storages_)
      if (s.npu == npu) return s.host;
    auto host = c10::make_intrusive<c10::StorageImpl>(
        c10::StorageImpl::use_byte_size_t(), npu->nbytes(), c10::DataPtr(npu->mutable_data(), c10::Device(c10::kCPU)),
        c10::GetAllocator(c10::kCPU), /*resizable=*/true);
    storages_.push_back({npu, host});
    return host;
  }

  c10::Storage npu_storage(c10::StorageImpl* host) {
    for (auto& s : storages_)
      if (s.host.get() == host) return c10::Storage(StorageRef::reclaim_copy(s.npu));
    for (auto& known : adopted_)
      if (known.first.get() == host) return known.second;
    c10::Storage storage(c10::make_intrusive<c10::StorageImpl>(c10::StorageImpl::use_byte_size_t(), host->nbytes(),
                                                               adopt(host), &g_allocator, /*resizable=*/true));
    adopted_.emplace_back(StorageRef::reclaim_copy(host), storage);
    return storage;
  }

  // Moves the memory of a CPU storage into a device block; the CPU storage keeps a pointer it does not own.
  c10::DataPtr adopt(c10::StorageImpl* host) const {
    auto* block = new Block((int64_t)host->nbytes(), or_current(device));
    void* memory = host->mutable_data();
    block->adopted = host->set_data_ptr(c10::DataPtr(memory, c10::Device(c10::kCPU)));
    return block->data_ptr(memory);
  }
};

} // namespace npusim
