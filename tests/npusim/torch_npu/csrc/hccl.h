// The process group 'hccl': gloo, given host views of the device tensors, whose results therefore are in place.
#pragma once
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/reducer_timer.hpp>

#include "host_view.h"

namespace npusim {

// A gloo work that answers with the device tensors. DDP's reducer rebuilds its bucket from the value of the future: given
// gloo's, the gradients would silently land on the CPU.
//
// No callback is left with gloo's threads: one that held the last reference to a tensor of Python's would ask for the
// interpreter to release it, and end the process with `terminate called` if the interpreter was ending.
class HcclWork final : public c10d::Work {
 public:
  using Inner = c10::intrusive_ptr<c10d::Work>;
  HcclWork(Inner inner, Tensors results, std::shared_ptr<HostViews> views)
      : inner_(std::move(inner)), results_(std::move(results)), views_(std::move(views)) {}

  bool isCompleted() override { return inner_->isCompleted(); }
  bool isSuccess() const override { return inner_->isSuccess(); }
  std::exception_ptr exception() const override { return inner_->exception(); }
  bool wait(std::chrono::milliseconds timeout) override { return inner_->wait(timeout); }
  void synchronize() override { inner_->synchronize(); }
  Tensors result() override { return results_; }

  c10::intrusive_ptr<c10::ivalue::Future> getFuture() override {
    inner_->wait();
    auto future = c10::make_intrusive<c10::ivalue::Future>(c10::ListType::create(c10::TensorType::get()));
    future->markCompleted(c10::IValue(results_));
    return future;
  }

 private:
  Inner inner_;
  Tensors results_;
  std::shared_ptr<HostViews> views_;   // the host views must outlive the transfer
};

class HcclBackend final : public c10d::Backend {
 public:
  using Work = c10::intrusive_ptr<c10d::Work>;
  using Lists = std::vector<Tensors>;

  HcclBackend(c10::intrusive_ptr<c10d::Backend> gloo, int rank, int size) : Backend(rank, size), gloo_(std::move(gloo)) {}
  const std::string getBackendName() const override { return "hccl"; }

  Work broadcast(Tensors& t, const c10d::BroadcastOptions& o) override {
    Call c;
    auto host = c(t);
    return c.finished(gloo_->broadcast(host, o), t);
  }
  Work allreduce(Tensors& t, const c10d::AllreduceOptions& o) override {
    Call c;
    auto host = c(t);
    return c.finished(gloo_->allreduce(host, o), t);
  }
  Work allreduce_coalesced(Tensors& t, const c10d::AllreduceCoalescedOptions& o) override {
    Call c;
    auto host = c(t);
    return c.finished(gloo_->allreduce_coalesced(host, o), t);
  }
  Work reduce(Tensors& t, const c10d::ReduceOptions& o) override {
    Call c;
    auto host = c(t);
    return c.finished(gloo_->reduce(host, o), t);
  }
  Work allgather(Lists& out, Tensors& in, const c10d::AllgatherOptions& o) override {
    Call c;
    auto host_out = c(out);
    auto host_in = c(in);
    return c.finished(gloo_->allgather(host_out, host_in, o), joined(out));
  }
  Work _allgather_base(Tensor& out, Tensor& in, const c10d::AllgatherOptions& o) override {
    Call c;
    auto host = c.flat({out, in});   // SyncBatchNorm gives an output of shape (1, world * C), which gloo refuses
    return c.finished(gloo_->_allgather_base(host[0], host[1], o), {out});
  }
  Work allgather_into_tensor_coalesced(Tensors& out, Tensors& in, const c10d::AllgatherOptions& o) override {
    Call c;
    auto host_out = c(out), host_in = c(in);
    return c.finished(gloo_->allgather_into_tensor_coalesced(host_out, host_in, o), out);
  }
  Work gather(Lists& out, Tensors& in, const c10d::GatherOptions& o) override {
    Call c;
    auto host_out = c(out);
    auto host_in = c(in);
    return c.finished(gloo_->gather(host_out, host_in, o), joined(out));
  }
  Work scatter(Tensors& out, Lists& in, const c10d::ScatterOptions& o) override {
    Call c;
    auto host_out = c(out);
    auto host_in = c(in);
    return c.finished(gloo_->scatter(host_out, host_in, o), out);
  }
  Work reduce_scatter(Tensors& out, Lists& in, const c10d::ReduceScatterOptions& o) override {
    Call c;
    auto host_out = c(out);
    auto host_in = c(in);
    return c.finished(gloo_->reduce_scatter(host_out, host_in, o), out);
  }
  Work _reduce_scatter_base(Tensor& out, Tensor& in, const c10d::ReduceScatterOptions& o) override {
    Call c;
    auto host = c.flat({out, in});
    return c.finished(gloo_->_reduce_scatter_base(host[0], host[1], o), {out});
  }
  Work alltoall_base(Tensor& out, Tensor& in, std::vector<int64_t>& out_sizes, std::vector<int64_t>& in_sizes,
                     const c10d::AllToAllOptions& o) override {
    Call c;
    auto host = c(Tensors{out, in});
    return c.finished(gloo_->alltoall_base(host[0], host[1], out_sizes, in_sizes, o), {out});
  }
  Work alltoall(Tensors& out, Tensors& in, const c10d::AllToAllOptions& o) override {
    Call c;
    auto host_out = c(out), host_in = c(in);
    return c.finished(gloo_->alltoall(host_out, host_in, o), out);
  }
  Work send(Tensors& t, int to, int tag) override {
    Call c;
    auto host = c(t);
    return c.work(gloo_->send(host, to, tag), t);
  }
  Work recv(Tensors& t, int from, int tag) override {
    Call c;
    auto host = c(t);
    return c.work(gloo_->recv(host, from, tag), t);
  }
  Work recvAnysource(Tensors& t, int tag) override {
    Call c;
    auto host = c(t);
    return c.work(gloo_->recvAnysource(host, tag), t);
  }
  Work barrier(const c10d::BarrierOptions& options) override {
    auto without_device = options;
    without_device.device_ids.clear();
    without_device.device = std::nullopt;
    return gloo_->barrier(without_device);
  }
  void setSequenceNumberForGroup() override { gloo_->setSequenceNumberForGroup(); }
  uint64_t getSequenceNumberForGroup() override { return gloo_->getSequenceNumberForGroup(); }
  void setTimeout(std::chrono::milliseconds timeout) override { gloo_->setTimeout(timeout); }

 private:
  // The host views of one collective.
  class Call {
   public:
    Tensors operator()(const Tensors& list) {
      for (auto& t : list) TORCH_CHECK(on_npu(t), "ProcessGroupHCCL takes tensors on an NPU, not on ", t.device());
      return views_->to_host(list);
    }
    Lists operator()(const Lists& lists) {
      Lists out;
      for (auto& list : lists) out.push_back((*this)(list));
      return out;
    }
    Tensors flat(const Tensors& list) {
      auto host = (*this)(list);
      for (auto& t : host) t = t.view(-1);
      return host;
    }
    // Collectives have ended when their call returns: every rank calls them in the same order, so none waits for ever.
    Work finished(Work inner, Tensors results) {
      inner->wait();
      return work(std::move(inner), std::move(results));
    }
    // A send has not: its partner may be about to send, too.
    Work work(Work inner, Tensors results) {
      return c10::make_intrusive<HcclWork>(std::move(inner), std::move(results), views_);
    }

   private:
    std::shared_ptr<HostViews> views_ = std::make_shared<HostViews>();
  };

  static Tensors joined(const Lists& lists) {
    Tensors out;
    for (auto& list : lists) out.insert(out.end(), list.begin(), list.end());
    return out;
  }

  c10::intrusive_ptr<c10d::Backend> gloo_;
};

// DistributedDataParallel's own timing; without one it warns about the device, once on each rank.
class NpuTimer final : public c10d::Timer {
 public:
  explicit NpuTimer(c10::Device) {}
  std::optional<int64_t> measureDifference(Event start, Event end) override {
    const int64_t from = getTimeRef(start), to = getTimeRef(end);
    if (from <= 0 || to < from) return std::nullopt;
    return to - from;
  }
};

} // namespace npusim
