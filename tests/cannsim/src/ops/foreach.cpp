// The same for many tensors at once, as optimizers want it: list i of the result is made of element i of each argument.
// "...ScalarV2" takes a number for all, "...ScalarList" one for each: a list of numbers, or a tensor.
#include "op.h"

using namespace cannsim;

// `value` is made of the lists with [i]
#define EACH(value)                                                 \
    {                                                               \
        for (size_t i = 0; i < out.size(); ++i) put(out[i], value); \
    }

OP(aclnnForeachAddListV2, (List a, List b, Scalar alpha, OutList out), EACH(at::add(a[i], b[i], alpha)))
OP(aclnnForeachSubListV2, (List a, List b, Scalar alpha, OutList out), EACH(at::sub(a[i], b[i], alpha)))
OP(aclnnForeachMulList, (List a, List b, OutList out), EACH(at::mul(a[i], b[i])))
OP(aclnnForeachDivList, (List a, List b, OutList out), EACH(at::div(a[i], b[i])))
OP(aclnnForeachMaximumList, (List a, List b, OutList out), EACH(at::maximum(a[i], b[i])))
OP(aclnnForeachMinimumList, (List a, List b, OutList out), EACH(at::minimum(a[i], b[i])))
OP(aclnnForeachPowList, (List a, List b, OutList out), EACH(at::pow(a[i], b[i])))
OP(aclnnForeachLerpList, (List a, List b, List w, OutList out), EACH(at::lerp(a[i], b[i], w[i])))

OP(aclnnForeachAddScalarV2, (List a, Scalar s, OutList out), EACH(at::add(a[i], s)))
OP(aclnnForeachSubScalarV2, (List a, Scalar s, OutList out), EACH(at::sub(a[i], s)))
OP(aclnnForeachMulScalarV2, (List a, Scalar s, OutList out), EACH(at::mul(a[i], s)))
OP(aclnnForeachDivScalarV2, (List a, Scalar s, OutList out), EACH(at::div(a[i], s)))
OP(aclnnForeachPowScalarV2, (List a, Scalar s, OutList out), EACH(at::pow(a[i], s)))
OP(aclnnForeachPowScalarAndTensor, (Scalar s, List a, OutList out), EACH(at::pow(s, a[i])))
OP(aclnnForeachMaximumScalarV2, (List a, Scalar s, OutList out), EACH(at::clamp_min(a[i], s)))
OP(aclnnForeachMinimumScalarV2, (List a, Scalar s, OutList out), EACH(at::clamp_max(a[i], s)))
OP(aclnnForeachLerpScalar, (List a, List b, Scalar w, OutList out), EACH(at::lerp(a[i], b[i], w)))

OP(aclnnForeachAddScalarList, (List a, Scalars s, OutList out), EACH(at::add(a[i], s[i])))
OP(aclnnForeachSubScalarList, (List a, Scalars s, OutList out), EACH(at::sub(a[i], s[i])))
OP(aclnnForeachMulScalarList, (List a, Scalars s, OutList out), EACH(at::mul(a[i], s[i])))
OP(aclnnForeachDivScalarList, (List a, Scalars s, OutList out), EACH(at::div(a[i], s[i])))

OP(aclnnForeachAddcmulScalarV2, (List a, List x, List y, Scalar s, OutList out), EACH(at::addcmul(a[i], x[i], y[i], s)))
OP(aclnnForeachAddcdivScalarV2, (List a, List x, List y, Scalar s, OutList out), EACH(at::addcdiv(a[i], x[i], y[i], s)))
OP(aclnnForeachAddcmulScalarList, (List a, List x, List y, In s, OutList out),
   EACH(at::addcmul(a[i], x[i], y[i], s[i].item())))
OP(aclnnForeachAddcdivScalarList, (List a, List x, List y, In s, OutList out),
   EACH(at::addcdiv(a[i], x[i], y[i], s[i].item())))

OP(aclnnForeachSqrt, (List a, OutList out), EACH(at::sqrt(a[i])))
OP(aclnnForeachNeg, (List a, OutList out), EACH(at::neg(a[i])))
OP(aclnnForeachAbs, (List a, OutList out), EACH(at::abs(a[i])))
OP(aclnnForeachExp, (List a, OutList out), EACH(at::exp(a[i])))
OP(aclnnForeachLog, (List a, OutList out), EACH(at::log(a[i])))
OP(aclnnForeachSign, (List a, OutList out), EACH(at::sign(a[i])))
OP(aclnnForeachReciprocal, (List a, OutList out), EACH(at::reciprocal(a[i])))
OP(aclnnForeachSigmoid, (List a, OutList out), EACH(at::sigmoid(a[i])))
OP(aclnnForeachTanh, (List a, OutList out), EACH(at::tanh(a[i])))
OP(aclnnForeachCopy, (List a, OutList out), EACH(a[i]))
OP(aclnnForeachZeroInplace, (OutList a), {
    for (Tensor& x : a) x.zero_();
})
OP(aclnnForeachNorm, (List a, Scalar order, OutList out), EACH(at::linalg_vector_norm(wide(a[i]), order)))
