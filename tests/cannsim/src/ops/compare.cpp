// Comparisons and logic.
#include "op.h"

using namespace cannsim;

OP(aclnnEqTensor, (In a, In b, Out out), { put(out, at::eq(a, b)); })
OP(aclnnNeTensor, (In a, In b, Out out), { put(out, at::ne(a, b)); })
OP(aclnnLtTensor, (In a, In b, Out out), { put(out, at::lt(a, b)); })
OP(aclnnLeTensor, (In a, In b, Out out), { put(out, at::le(a, b)); })
OP(aclnnGtTensor, (In a, In b, Out out), { put(out, at::gt(a, b)); })
OP(aclnnGeTensor, (In a, In b, Out out), { put(out, at::ge(a, b)); })
OP(aclnnEqScalar, (In a, Scalar b, Out out), { put(out, at::eq(a, b)); })
OP(aclnnNeScalar, (In a, Scalar b, Out out), { put(out, at::ne(a, b)); })
OP(aclnnLtScalar, (In a, Scalar b, Out out), { put(out, at::lt(a, b)); })
OP(aclnnLeScalar, (In a, Scalar b, Out out), { put(out, at::le(a, b)); })
OP(aclnnGtScalar, (In a, Scalar b, Out out), { put(out, at::gt(a, b)); })
OP(aclnnGeScalar, (In a, Scalar b, Out out), { put(out, at::ge(a, b)); })
OP(aclnnEqual, (In a, In b, Out out), { out.fill_(at::equal(a, b)); })
OP(aclnnIsClose, (In a, In b, double relative, double absolute, bool nans, Out out), {
    put(out, at::isclose(a, b, relative, absolute, nans));
})
OP(aclnnIsFinite, (In a, Out out), { put(out, at::isfinite(a)); })
OP(aclnnIsPosInf, (In a, Out out), { put(out, at::isposinf(a)); })
OP(aclnnIsNegInf, (In a, Out out), { put(out, at::isneginf(a)); })

OP(aclnnLogicalAnd, (In a, In b, Out out), { put(out, at::logical_and(a, b)); })
OP(aclnnLogicalOr, (In a, In b, Out out), { put(out, at::logical_or(a, b)); })
OP(aclnnLogicalXor, (In a, In b, Out out), { put(out, at::logical_xor(a, b)); })
OP(aclnnLogicalNot, (In a, Out out), { put(out, at::logical_not(a)); })
OP(aclnnInplaceLogicalAnd, (Out a, In b), { a.logical_and_(b); })
OP(aclnnInplaceLogicalOr, (Out a, In b), { a.logical_or_(b); })
OP(aclnnInplaceLogicalNot, (Out a), { a.logical_not_(); })
OP(aclnnBitwiseAndTensor, (In a, In b, Out out), { put(out, at::bitwise_and(a, b)); })
OP(aclnnBitwiseAndScalar, (In a, Scalar b, Out out), { put(out, at::bitwise_and(a, b)); })
OP(aclnnBitwiseOrTensor, (In a, In b, Out out), { put(out, at::bitwise_or(a, b)); })
OP(aclnnBitwiseOrScalar, (In a, Scalar b, Out out), { put(out, at::bitwise_or(a, b)); })
OP(aclnnBitwiseXorTensor, (In a, In b, Out out), { put(out, at::bitwise_xor(a, b)); })
OP(aclnnBitwiseXorScalar, (In a, Scalar b, Out out), { put(out, at::bitwise_xor(a, b)); })
OP(aclnnBitwiseNot, (In a, Out out), { put(out, at::bitwise_not(a)); })
OP(aclnnInplaceBitwiseAndTensor, (Out a, In b), { a.bitwise_and_(b); })
OP(aclnnInplaceBitwiseAndScalar, (Out a, Scalar b), { a.bitwise_and_(b); })
