// Matrix products and convolutions. Products of half precision are added up in float32, as the cube unit does; the last
// number, cubeMathType, says whether float32 may be rounded for it, which does not happen here.
#include "op.h"

using namespace cannsim;

OP(aclnnMm, (In a, In b, Out out, int8_t), { put(out, at::mm(wide(a), wide(b))); })
OP(aclnnMatmul, (In a, In b, Out out, int8_t), { put(out, at::matmul(wide(a), wide(b))); })
OP(aclnnBatchMatMul, (In a, In b, Out out, int8_t), { put(out, at::bmm(wide(a), wide(b))); })
OP(aclnnMv, (In a, In b, Out out, int8_t), { put(out, at::mv(wide(a), wide(b))); })
OP(aclnnDot, (In a, In b, Out out), { put(out, at::dot(wide(a), wide(b))); })
OP(aclnnAddmm, (In c, In a, In b, Scalar beta, Scalar alpha, Out out, int8_t),
   { put(out, at::addmm(wide(c), wide(a), wide(b), beta, alpha)); })
OP(aclnnInplaceAddmm, (Out c, In a, In b, Scalar beta, Scalar alpha, int8_t),
   { put(c, at::addmm(wide(c), wide(a), wide(b), beta, alpha)); })
OP(aclnnAddmv, (In c, In a, In b, Scalar alpha, Scalar beta, Out out, int8_t),
   { put(out, at::addmv(wide(c), wide(a), wide(b), beta, alpha)); })
OP(aclnnBaddbmm, (In c, In a, In b, Scalar beta, Scalar alpha, Out out, int8_t),
   { put(out, at::baddbmm(wide(c), wide(a), wide(b), beta, alpha)); })

OP(aclnnConvolution,
   (In x, In w, MaybeIn bias, Ints stride, Ints padding, Ints dilation, bool transposed, Ints out_padding,
    int64_t groups, Out out, int8_t),
   {
       put(out,
           at::convolution(wide(x), wide(w), wide(bias), stride, padding, dilation, transposed, out_padding, groups));
   })
OP(aclnnConvolutionBackward,
   (In grad, In x, In w, Ints bias, Ints stride, Ints padding, Ints dilation, bool transposed, Ints out_padding,
    int groups, Bools wanted, int8_t, MaybeOut gx, MaybeOut gw, MaybeOut gb),
   {
       auto all = at::convolution_backward(wide(grad), wide(x), wide(w), bias, stride, padding, dilation, transposed,
                                           out_padding, groups, {wanted[0], wanted[1], wanted[2]});
       if (wanted[0]) put(gx, get<0>(all));
       if (wanted[1]) put(gw, get<1>(all));
       if (wanted[2]) put(gb, get<2>(all));
   })
