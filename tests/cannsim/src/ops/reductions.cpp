// Reductions, and what orders or accumulates along a dimension.
#include "op.h"

using namespace cannsim;

// An empty list of dimensions is all of them. Sums of half precision are added up in float32.
OP(aclnnReduceSum, (In a, Ints dims, bool keep, Type type, Out out), { put(out, at::sum(wide(a), dims, keep)); })
OP(aclnnMean, (In a, Ints dims, bool keep, Type type, Out out),
   { put(out, at::mean(wide(a), dims, keep, wide(out).scalar_type())); })
OP(aclnnProd, (In a, Type type, Out out), { put(out, at::prod(wide(a))); })
OP(aclnnProdDim, (In a, int64_t dim, bool keep, Type type, Out out), { put(out, at::prod(wide(a), dim, keep)); })
OP(aclnnStd, (In a, Ints dims, int64_t correction, bool keep, Out out),
   { put(out, at::std(wide(a), dims, correction, keep)); })
OP(aclnnVarCorrection, (In a, Ints dims, int64_t correction, bool keep, Out out),
   { put(out, at::var(wide(a), dims, correction, keep)); })
OP(aclnnVarMean, (In a, Ints dims, int64_t correction, bool keep, Out variance, Out mean), {
    auto both = at::var_mean(wide(a), dims, correction, keep);
    put(variance, get<0>(both));
    put(mean, get<1>(both));
})
OP(aclnnStdMeanCorrection, (In a, Ints dims, int64_t correction, bool keep, Out deviation, Out mean), {
    auto both = at::std_mean(wide(a), dims, correction, keep);
    put(deviation, get<0>(both));
    put(mean, get<1>(both));
})
OP(aclnnLogSumExp, (In a, Ints dims, bool keep, Out out), { put(out, at::logsumexp(wide(a), dims, keep)); })
OP(aclnnLinalgVectorNorm, (In a, Scalar order, Ints dims, bool keep, Type type, Out out),
   { put(out, at::linalg_vector_norm(wide(a), order, dims, keep)); })
OP(aclnnNorm, (In a, Scalar order, Ints dims, bool keep, Out out), { put(out, at::norm(wide(a), order, dims, keep)); })

OP(aclnnAll, (In a, Ints dims, bool keep, Out out), { put(out, at::sum(a.eq(0), dims, keep).eq(0)); })
OP(aclnnAny, (In a, Ints dims, bool keep, Out out), { put(out, at::sum(a.ne(0), dims, keep).ne(0)); })
OP(aclnnAmax, (In a, Ints dims, bool keep, Out out), { put(out, at::amax(a, dims, keep)); })
OP(aclnnAmin, (In a, Ints dims, bool keep, Out out), { put(out, at::amin(a, dims, keep)); })
OP(aclnnMax, (In a, Out out), { put(out, at::max(a)); })
OP(aclnnMin, (In a, Out out), { put(out, at::min(a)); })
OP(aclnnMaxDim, (In a, int64_t dim, bool keep, Out values, Out indices), {
    auto both = at::max(a, dim, keep);
    put(values, get<0>(both));
    put(indices, get<1>(both));
})
OP(aclnnMinDim, (In a, int64_t dim, bool keep, Out values, Out indices), {
    auto both = at::min(a, dim, keep);
    put(values, get<0>(both));
    put(indices, get<1>(both));
})
OP(aclnnAminmax, (In a, Ints dims, bool keep, Out low, Out high), {
    put(low, at::amin(a, dims, keep));
    put(high, at::amax(a, dims, keep));
})
OP(aclnnArgMax, (In a, int64_t dim, bool keep, Out out), { put(out, at::argmax(a, dim, keep)); })
OP(aclnnArgMin, (In a, int64_t dim, bool keep, Out out), { put(out, at::argmin(a, dim, keep)); })
OP(aclnnTopk, (In a, int64_t count, int64_t dim, bool largest, bool sorted, Out values, Out indices), {
    auto both = at::topk(a, count, dim, largest, sorted);
    put(values, get<0>(both));
    put(indices, get<1>(both));
})
OP(aclnnSort, (In a, bool stable, int64_t dim, bool descending, Out values, Out indices), {
    auto both = at::sort(a, stable, dim, descending);
    put(values, get<0>(both));
    put(indices, get<1>(both));
})
OP(aclnnCumsum, (In a, int64_t dim, Type type, Out out), { put(out, at::cumsum(wide(a), dim)); })
OP(aclnnCumprod, (In a, Scalar dim, Type type, Out out), { put(out, at::cumprod(wide(a), dim.toLong())); })
OP(aclnnBincount, (In a, MaybeIn weights, int64_t least, Out out), { put(out, at::bincount(a, weights, least)); })
OP(aclnnTrace, (In a, Out out), { put(out, at::trace(a)); })
