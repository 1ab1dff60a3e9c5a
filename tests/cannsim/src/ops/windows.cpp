// Pooling and resizing of images.
#include "op.h"

using namespace cannsim;

OP(aclnnAdaptiveAvgPool2d, (In a, Ints size, Out out), { put(out, at::_adaptive_avg_pool2d(wide(a), size)); })
OP(aclnnAdaptiveAvgPool2dBackward, (In grad, In a, Out out),
   { put(out, at::_adaptive_avg_pool2d_backward(wide(grad), wide(a))); })
static c10::optional<int64_t> divisor_of(int64_t divisor) {
    return divisor ? c10::optional<int64_t>(divisor) : c10::nullopt;
}
OP(aclnnAvgPool2d,
   (In a, Ints kernel, Ints stride, Ints padding, bool ceil, bool padding_counts, int64_t divisor, int8_t, Out out),
   { put(out, at::avg_pool2d(wide(a), kernel, stride, padding, ceil, padding_counts, divisor_of(divisor))); })
OP(aclnnAvgPool2dBackward,
   (In grad, In a, Ints kernel, Ints stride, Ints padding, bool ceil, bool padding_counts, int64_t divisor, int8_t,
    Out out),
   {
       put(out, at::avg_pool2d_backward(wide(grad), wide(a), kernel, stride, padding, ceil, padding_counts,
                                        divisor_of(divisor)));
   })

// Scales of 0 are those that the sizes give.
static c10::optional<double> scale_of(double scale) { return scale > 0 ? c10::optional<double>(scale) : c10::nullopt; }
OP(aclnnUpsampleBilinear2d, (In a, Ints size, bool corners, double h, double w, Out out),
   { put(out, at::upsample_bilinear2d(wide(a), size, corners, scale_of(h), scale_of(w))); })
OP(aclnnUpsampleBilinear2dBackwardV2, (In grad, Ints size, Ints from, bool corners, double h, double w, Out out),
   { put(out, at::upsample_bilinear2d_backward(wide(grad), size, from, corners, scale_of(h), scale_of(w))); })
OP(aclnnUpsampleBicubic2d, (In a, Ints size, bool corners, double h, double w, Out out),
   { put(out, at::upsample_bicubic2d(wide(a), size, corners, scale_of(h), scale_of(w))); })
OP(aclnnUpsampleBicubic2dBackward, (In grad, Ints size, Ints from, bool corners, double h, double w, Out out),
   { put(out, at::upsample_bicubic2d_backward(wide(grad), size, from, corners, scale_of(h), scale_of(w))); })
OP(aclnnUpsampleNearest2dV2, (In a, Ints size, float h, float w, Out out),
   { put(out, at::upsample_nearest2d(wide(a), size, scale_of(h), scale_of(w))); })
OP(aclnnUpsampleNearest2dBackward, (In grad, Ints size, Ints from, double h, double w, Out out),
   { put(out, at::upsample_nearest2d_backward(wide(grad), size, from, scale_of(h), scale_of(w))); })
