// Attention as one operator, forward and backward. It is computed as written in CANN's page, (batch, heads, tokens,
// channels) in float32; the layouts only say how the caller's tensors are to be looked at.
#include "op.h"

using namespace cannsim;

namespace {

constexpr int64_t compressed_mask = 2048;  // sparse modes 2 and 3 come with a mask of this size, whatever the sizes are

// A view as (batch, heads, tokens, channels) of a tensor in the given layout; `heads` counts where the layout hides
// them.
Tensor to_bnsd(const Tensor& x, const Text& layout, int64_t heads) {
    if (layout == "BNSD") return x;
    if (layout == "BSND") return x.transpose(1, 2);
    if (layout == "BSH") return x.unflatten(2, {heads, -1}).transpose(1, 2);
    if (layout == "SBH") return x.unflatten(2, {heads, -1}).permute({1, 2, 0, 3});
    TORCH_CHECK(false, "the layout ", layout, " is not simulated");
}

struct Attention {
    Tensor q, k, v;  // float32, BNSD; k and v repeated where several heads of q share one
    Tensor scores;   // scaled, shifted and masked
    Tensor kept;     // what dropout leaves, 1 or 0; undefined without dropout
    int64_t key_heads;
    double keep;
};

// true where a key is hidden from a query
Tensor hidden(const MaybeIn& mask, int64_t queries, int64_t keys, int64_t before, int64_t after, int64_t mode) {
    if (!mask) return {};
    auto rows = at::arange(queries).unsqueeze(1);
    auto columns = at::arange(keys).unsqueeze(0);
    switch (mode) {
        case 0:
        case 1: return mask->to(at::kBool);                // 0: with before and after, that the mask already has in it
        case 2: return columns > rows;                     // causal, from the upper left corner
        case 3: return columns > rows + (keys - queries);  // causal, from the lower right corner
        case 4: {                                          // a band, from the lower right corner
            auto shifted = columns - rows - (keys - queries);
            return at::logical_or(shifted > after, shifted < -before);
        }
    }
    TORCH_CHECK(false, "the sparse mode ", mode, " is not simulated");
}

// What dropout leaves of the probabilities, or of their gradient
Tensor dropped(const Attention& a, const Tensor& p) {
    if (!a.kept.defined()) return p;
    return a.keep > 0 ? p * a.kept / a.keep : at::zeros_like(p);
}

Tensor as_float(const Tensor& x, const Text& layout, int64_t heads) {
    return wide(to_bnsd(x, layout, heads)).contiguous();
}

Attention prepare(const Tensor& q, const Tensor& k, const Tensor& v, const MaybeIn& shift, const MaybeIn& drop,
                  const MaybeIn& padding, const MaybeIn& mask, double scale, double keep, int64_t before, int64_t after,
                  int64_t heads, const Text& layout, int64_t mode) {
    TORCH_CHECK(!padding, "a padding mask is not simulated");
    Attention a;
    a.q = as_float(q, layout, heads);
    bool hidden_heads = layout == "BSH" || layout == "SBH";
    a.key_heads = hidden_heads ? k.size(2) / a.q.size(3) : to_bnsd(k, layout, heads).size(1);
    a.k = as_float(k, layout, a.key_heads).repeat_interleave(heads / a.key_heads, 1);
    a.v = as_float(v, layout, a.key_heads).repeat_interleave(heads / a.key_heads, 1);
    a.keep = keep;
    a.scores = at::matmul(a.q, a.k.transpose(-1, -2));
    if (shift) a.scores = a.scores + wide(*shift);
    a.scores = a.scores * scale;
    auto out = hidden(mask, a.q.size(2), a.k.size(2), before, after, mode);
    if (out.defined()) a.scores = a.scores.masked_fill(out, -40000.0);  // finite: a row may be hidden as a whole
    if (drop) a.kept = unpacked(*drop, a.scores.numel()).view(a.scores.sizes());
    return a;
}

// The gradient of a key's head is the sum over the queries' heads that share it.
Tensor fold(const Tensor& grad, int64_t key_heads) {
    return grad.unflatten(1, {key_heads, grad.size(1) / key_heads}).sum(2);
}

void put_bnsd(const Tensor& out, const Tensor& value, const Text& layout, int64_t heads) {
    to_bnsd(out, layout, heads).copy_(value);
}

}  // namespace

OP(aclnnFlashAttentionScore,
   (In q, In k, In v, MaybeIn shift, MaybeIn drop, MaybeIn padding, MaybeIn mask, Ints prefix, double scale,
    double keep, int64_t before, int64_t after, int64_t heads, Text layout, int64_t, int64_t mode, Out max, Out sum,
    MaybeOut, Out out),
   {
       auto a = prepare(q, k, v, shift, drop, padding, mask, scale, keep, before, after, heads, layout, mode);
       auto largest = a.scores.amax(-1, true);
       auto e = (a.scores - largest).exp();
       auto total = e.sum(-1, true);
       put(max, largest.expand(max.sizes()));
       put(sum, total.expand(sum.sizes()));
       put_bnsd(out, at::matmul(dropped(a, e / total), a.v), layout, heads);
   })

OP(aclnnFlashAttentionScoreGrad,
   (In q, In k, In v, In dy, MaybeIn shift, MaybeIn drop, MaybeIn padding, MaybeIn mask, MaybeIn max, MaybeIn sum,
    MaybeIn, MaybeIn out, Ints prefix, double scale, double keep, int64_t before, int64_t after, int64_t heads,
    Text layout, int64_t, int64_t mode, Out dq, Out dk, Out dv, MaybeOut dshift),
   {
       TORCH_CHECK(max && sum, "the maxima and sums of the forward pass are wanted");
       auto a = prepare(q, k, v, shift, drop, padding, mask, scale, keep, before, after, heads, layout, mode);
       auto p =
           (a.scores - max->narrow(-1, 0, 1)).exp() / sum->narrow(-1, 0, 1);  // from the forward's, as the card does
       auto grad = as_float(dy, layout, heads);
       auto dp = dropped(a, at::matmul(grad, a.v.transpose(-1, -2)));
       auto ds = p * (dp - (dp * p).sum(-1, true)) * scale;
       if (shift && dshift) put(dshift, ds.sum_to_size(dshift->sizes()));
       put_bnsd(dq, at::matmul(ds, a.k), layout, heads);
       put_bnsd(dk, fold(at::matmul(ds.transpose(-1, -2), a.q), a.key_heads), layout, a.key_heads);
       put_bnsd(dv, fold(at::matmul(dropped(a, p).transpose(-1, -2), grad), a.key_heads), layout, a.key_heads);
   })
