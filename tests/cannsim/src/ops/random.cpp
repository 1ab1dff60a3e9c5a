// Random numbers. torch_npu passes the seed of its generator and an offset that grows with every draw; both together
// choose one of libtorch's generators, so a run repeats itself, but its numbers are not those of a card and not those
// of the CPU.
#include <ATen/CPUGeneratorImpl.h>

#include "op.h"

using namespace cannsim;

static at::Generator generator(uint64_t seed, uint64_t offset) {
    uint64_t mixed = (seed + 0x9e3779b97f4a7c15ull * (offset + 1)) * 0xbf58476d1ce4e5b9ull;
    return at::make_generator<at::CPUGeneratorImpl>(mixed ^ (mixed >> 31));
}

OP(aclnnInplaceNormal, (Out a, float mean, float std, int64_t seed, int64_t offset),
   { a.normal_(mean, std, generator(seed, offset)); })
OP(aclnnInplaceUniform, (Out a, double from, double to, uint64_t seed, uint64_t offset),
   { a.uniform_(from, to, generator(seed, offset)); })
OP(aclnnInplaceBernoulli, (Out a, Scalar p, int64_t seed, int64_t offset),
   { put(a, wide(a).bernoulli_(p.toDouble(), generator(seed, offset))); })
OP(aclnnInplaceBernoulliTensor, (Out a, In p, int64_t seed, int64_t offset),
   { put(a, wide(a).bernoulli_(wide(p), generator(seed, offset))); })
OP(aclnnInplaceRandom, (Out a, int64_t from, int64_t to, int64_t seed, int64_t offset),
   { a.random_(from, to, generator(seed, offset)); })
OP(aclnnNormalFloatFloat, (float mean, float std, int64_t seed, int64_t offset, Out out),
   { out.normal_(mean, std, generator(seed, offset)); })
OP(aclnnNormalTensorFloat, (In mean, float std, int64_t seed, int64_t offset, Out out),
   { put(out, at::normal(wide(mean), std, generator(seed, offset))); })
OP(aclnnNormalFloatTensor, (float mean, In std, int64_t seed, int64_t offset, Out out),
   { put(out, at::normal(mean, wide(std), generator(seed, offset))); })
OP(aclnnNormalTensorTensor, (In mean, In std, int64_t seed, int64_t offset, Out out),
   { put(out, at::normal(wide(mean), wide(std), generator(seed, offset))); })
OP(aclnnRandperm, (int64_t count, int64_t seed, int64_t offset, Out out),
   { put(out, at::randperm(count, generator(seed, offset), at::kLong)); })
OP(aclnnMultinomial, (In a, int64_t count, bool replacement, int64_t seed, int64_t offset, Out out),
   { put(out, at::multinomial(wide(a), count, replacement, generator(seed, offset))); })

// ---- dropout: a mask of one bit an element, the first in the lowest bit, 1 where it stays

static void draw_mask(const Ints& shape, double p, int64_t seed, int64_t offset, const Tensor& mask) {
    int64_t count = c10::multiply_integers(shape);
    TORCH_CHECK(mask.numel() * 8 >= count, "the mask has ", mask.numel(), " bytes for ", count, " elements");
    auto bits = at::zeros({mask.numel() * 8}, at::kByte);
    bits.narrow(0, 0, count).bernoulli_(1 - p, generator(seed, offset));
    auto weights = at::pow(2, at::arange(8, at::kInt));
    put(mask, (bits.view({-1, 8}).to(at::kInt) * weights).sum(1));
}
OP(aclnnDropoutGenMaskV2, (Ints shape, double p, int64_t seed, int64_t offset, Type, Out mask),
   { draw_mask(shape, p, seed, offset, mask); })
OP(aclnnDropoutDoMask, (In a, In mask, double p, Out out), {
    auto kept = unpacked(mask, a.numel()).view(a.sizes());
    put(out, p == 1 ? at::zeros_like(wide(a)) : wide(a) * kept / (1 - p));
})
