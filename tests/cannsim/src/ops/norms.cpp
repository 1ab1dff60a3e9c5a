// Normalisations. Half precision is computed in float32, as the device's kernels do; statistics are float32.
#include "op.h"

using namespace cannsim;

// libtorch's own statistics have other sizes than CANN's in places, (n, 1) for (n, 1, 1).
static void put_sized(const c10::optional<Tensor>& out, const Tensor& value) {
    if (out) put(*out, value.reshape(out->sizes()));
}

OP(aclnnLayerNorm, (In x, Ints shape, MaybeIn w, MaybeIn b, double eps, Out out, MaybeOut mean, MaybeOut rstd), {
    auto all = at::native_layer_norm(wide(x), shape, wide(w), wide(b), eps);
    put(out, get<0>(all));
    put_sized(mean, get<1>(all));
    put_sized(rstd, get<2>(all));
})
OP(aclnnLayerNormBackward,
   (In grad, In x, Ints shape, In mean, In rstd, MaybeIn w, MaybeIn b, Bools wanted, MaybeOut gx, MaybeOut gw,
    MaybeOut gb),
   {
       auto all = at::native_layer_norm_backward(wide(grad), wide(x), shape, wide(mean), wide(rstd), wide(w), wide(b),
                                                 {wanted[0], wanted[1], wanted[2]});
       if (wanted[0]) put(gx, get<0>(all));
       if (wanted[1]) put(gw, get<1>(all));
       if (wanted[2]) put(gb, get<2>(all));
   })
OP(aclnnGroupNorm,
   (In x, MaybeIn w, MaybeIn b, int64_t n, int64_t c, int64_t hw, int64_t groups, double eps, Out out, Out mean,
    Out rstd),
   {
       auto all = at::native_group_norm(wide(x.contiguous()), wide(w), wide(b), n, c, hw, groups, eps);
       put(out, get<0>(all));
       put(mean, get<1>(all));
       put(rstd, get<2>(all));
   })
OP(aclnnGroupNormBackward,
   (In grad, In x, In mean, In rstd, MaybeIn w, int64_t n, int64_t c, int64_t hw, int64_t groups, Bools wanted,
    MaybeOut gx, MaybeOut gw, MaybeOut gb),
   {
       auto all = at::native_group_norm_backward(wide(grad.contiguous()), wide(x.contiguous()), wide(mean), wide(rstd),
                                                 wide(w), n, c, hw, groups, {wanted[0], wanted[1], wanted[2]});
       if (wanted[0]) put(gx, get<0>(all));
       if (wanted[1]) put(gw, get<1>(all));
       if (wanted[2]) put(gb, get<2>(all));
   })
OP(aclnnBatchNorm,
   (In x, MaybeIn w, MaybeIn b, MaybeOut mean, MaybeOut var, bool training, double momentum, double eps, Out out,
    MaybeOut save_mean, MaybeOut save_invstd),
   {
       auto all = at::native_batch_norm(wide(x), wide(w), wide(b), mean, var, training, momentum, eps);
       put(out, get<0>(all));
       if (!training) return;
       put(save_mean, get<1>(all));
       put(save_invstd, get<2>(all));
   })
OP(aclnnBatchNormBackward,
   (In grad, In x, MaybeIn w, MaybeIn mean, MaybeIn var, MaybeIn save_mean, MaybeIn save_invstd, bool training,
    double eps, Bools wanted, MaybeOut gx, MaybeOut gw, MaybeOut gb),
   {
       auto all = at::native_batch_norm_backward(wide(grad), wide(x), wide(w), wide(mean), wide(var), wide(save_mean),
                                                 wide(save_invstd), training, eps, {wanted[0], wanted[1], wanted[2]});
       if (wanted[0]) put(gx, get<0>(all));
       if (wanted[1]) put(gw, get<1>(all));
       if (wanted[2]) put(gb, get<2>(all));
   })

// ---- batch norm over several cards: sums here, all of them together, then each element

static std::vector<int64_t> all_but_channels(const Tensor& x) {
    std::vector<int64_t> dims{0};
    for (int64_t i = 2; i < x.dim(); ++i) dims.push_back(i);
    return dims;
}
static Tensor by_channel(const Tensor& value, const Tensor& x) {  // (C) -> (1, C, 1, 1)
    std::vector<int64_t> sizes(x.dim(), 1);
    sizes[1] = value.numel();
    return wide(value).reshape(sizes);
}

OP(aclnnBatchNormReduce, (In x, Out sum, Out squares), {
    put(sum, at::sum(wide(x), all_but_channels(x)));
    put(squares, at::sum(wide(x).square(), all_but_channels(x)));
})
OP(aclnnBatchNormStats, (In x, double eps, Out mean, Out invstd), {
    auto both = at::var_mean(wide(x), all_but_channels(x), int64_t(0));
    put(mean, get<1>(both));
    put(invstd, at::rsqrt(get<0>(both) + eps));
})

static void update_running(const Tensor& mean, const Tensor& var, const Tensor& batch_mean, const Tensor& batch_var,
                           const Tensor& count, double momentum) {
    put(mean, wide(mean) * (1 - momentum) + batch_mean * momentum);
    put(var, wide(var) * (1 - momentum) + batch_var * (count / (count - 1)) * momentum);
}
OP(aclnnSyncBatchNormGatherStats,
   (In sums, In squares, In counts, Out mean, Out var, float momentum, float eps, Out batch_mean, Out batch_invstd), {
       auto count = counts.sum().to(at::kFloat);
       auto average = wide(sums).sum(0) / count;
       auto variance = wide(squares).sum(0) / count - average.square();
       put(batch_mean, average);
       put(batch_invstd, at::rsqrt(variance + double(eps)));
       update_running(mean, var, average, variance, count, momentum);
   })
OP(aclnnBatchNormGatherStatsWithCounts,
   (In x, In means, In invstds, MaybeOut mean, MaybeOut var, double momentum, double eps, In counts, Out batch_mean,
    Out batch_invstd),
   {
       auto n = wide(counts).reshape({-1, 1});
       auto count = n.sum();
       auto variances = wide(invstds).square().reciprocal() - eps;
       auto average = (wide(means) * n).sum(0) / count;
       auto variance = ((variances + (wide(means) - average).square()) * n).sum(0) / count;
       put(batch_mean, average);
       put(batch_invstd, at::rsqrt(variance + eps));
       if (mean && var) update_running(*mean, *var, average, variance, count, momentum);
   })
OP(aclnnBatchNormElemt, (In x, MaybeIn w, MaybeIn b, In mean, In invstd, double, Out out), {
    auto y = (wide(x) - by_channel(mean, x)) * by_channel(invstd, x);
    if (w) y = y * by_channel(*w, x);
    if (b) y = y + by_channel(*b, x);
    put(out, y);
})
OP(aclnnBatchNormReduceBackward,
   (In grad, In x, In mean, In invstd, MaybeIn w, bool input, bool weight, bool bias, MaybeOut sum_dy,
    MaybeOut sum_dy_xmu, MaybeOut gw, MaybeOut gb),
   {
       auto dims = all_but_channels(x);
       auto dy = at::sum(wide(grad), dims);
       auto dy_xmu = at::sum(wide(grad) * (wide(x) - by_channel(mean, x)), dims);
       if (input) put(sum_dy, dy);
       if (input) put(sum_dy_xmu, dy_xmu);
       if (weight) put(gw, dy_xmu * wide(invstd));
       if (bias) put(gb, dy);
   })
OP(aclnnBatchNormElemtBackward,
   (In grad, In x, In mean, In invstd, MaybeIn w, In sum_dy, In sum_dy_xmu, In counts, Out gx), {
       auto n = counts.sum().to(at::kFloat);
       auto inv = by_channel(invstd, x);
       auto projected = (wide(x) - by_channel(mean, x)) * inv.square() * (by_channel(sum_dy_xmu, x) / n);
       auto y = (wide(grad) - by_channel(sum_dy, x) / n - projected) * inv;
       put(gx, w ? y * by_channel(*w, x) : y);
   })
