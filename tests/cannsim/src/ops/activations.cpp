// Activations, softmax and losses. Half precision is computed in float32.
#include "op.h"

using namespace cannsim;

// ---- activations

OP(aclnnRelu, (In a, Out out), { put(out, at::relu(a)); })
OP(aclnnInplaceRelu, (Out a), { a.relu_(); })
OP(aclnnThresholdBackward, (In grad, In a, Scalar threshold, Out out),
   { put(out, at::threshold_backward(grad, a, threshold)); })
OP(aclnnSigmoid, (In a, Out out), { put(out, at::sigmoid(a)); })
OP(aclnnInplaceSigmoid, (Out a), { a.sigmoid_(); })
OP(aclnnSigmoidBackward, (In grad, In y, Out out), { put(out, at::sigmoid_backward(wide(grad), wide(y))); })
OP(aclnnTanh, (In a, Out out), { put(out, at::tanh(a)); })
OP(aclnnInplaceTanh, (Out a), { a.tanh_(); })
OP(aclnnTanhBackward, (In grad, In y, Out out), { put(out, at::tanh_backward(wide(grad), wide(y))); })
OP(aclnnSilu, (In a, Out out), { put(out, at::silu(wide(a))); })
OP(aclnnSiluBackward, (In grad, In a, Out out), { put(out, at::silu_backward(wide(grad), wide(a))); })
OP(aclnnHardswish, (In a, Out out), { put(out, at::hardswish(wide(a))); })
OP(aclnnInplaceHardswish, (Out a), { at::hardswish_(a); })
OP(aclnnHardswishBackwardV2, (In grad, In a, Out out), { put(out, at::hardswish_backward(wide(grad), wide(a))); })
OP(aclnnHardsigmoid, (In a, Out out), { put(out, at::hardsigmoid(wide(a))); })
OP(aclnnInplaceHardsigmoid, (Out a), { at::hardsigmoid_(a); })
OP(aclnnHardsigmoidBackward, (In grad, In a, Out out), { put(out, at::hardsigmoid_backward(wide(grad), wide(a))); })
OP(aclnnHardtanh, (In a, Scalar low, Scalar high, Out out), { put(out, at::hardtanh(a, low, high)); })
OP(aclnnInplaceHardtanh, (Out a, Scalar low, Scalar high), { at::hardtanh_(a, low, high); })
OP(aclnnHardtanhBackward, (In grad, In a, Scalar low, Scalar high, Out out),
   { put(out, at::hardtanh_backward(grad, a, low, high)); })
OP(aclnnLeakyRelu, (In a, Scalar slope, Out out), { put(out, at::leaky_relu(a, slope)); })
OP(aclnnInplaceLeakyRelu, (Out a, Scalar slope), { at::leaky_relu_(a, slope); })
OP(aclnnLeakyReluBackward, (In grad, In a, Scalar slope, bool result, Out out),
   { put(out, at::leaky_relu_backward(grad, a, slope, result)); })
OP(aclnnElu, (In a, Scalar alpha, Scalar scale, Scalar input_scale, Out out),
   { put(out, at::elu(wide(a), alpha, scale, input_scale)); })
OP(aclnnEluBackward, (In grad, Scalar alpha, Scalar scale, Scalar input_scale, bool result, In a, Out out),
   { put(out, at::elu_backward(wide(grad), alpha, scale, input_scale, result, wide(a))); })
OP(aclnnSoftplus, (In a, Scalar beta, Scalar threshold, Out out), { put(out, at::softplus(wide(a), beta, threshold)); })
OP(aclnnSoftplusBackward, (In grad, In a, Scalar beta, Scalar threshold, Out out),
   { put(out, at::softplus_backward(wide(grad), wide(a), beta, threshold)); })
OP(aclnnMish, (In a, Out out), { put(out, at::mish(wide(a))); })
OP(aclnnMishBackward, (In grad, In a, Out out), { put(out, at::mish_backward(wide(grad), wide(a))); })
OP(aclnnGlu, (In a, int64_t dim, Out out), { put(out, at::glu(wide(a), dim)); })
OP(aclnnGluBackward, (In grad, In a, int64_t dim, Out out), { put(out, at::glu_backward(wide(grad), wide(a), dim)); })
OP(aclnnLogSigmoidForward, (In a, Out out, Out buffer),
   { put(out, at::log_sigmoid(wide(a))); })  // the buffer is not used
OP(aclnnLogSigmoidBackward, (In grad, In a, In buffer, Out out), { put(out, wide(grad) * at::sigmoid(-wide(a))); })

// GELU: by the error function (0, "none") or by tanh (1, "tanh"); the fast one is x * sigmoid(1.702 x). CANN's page
// writes aclnnGelu with tanh, and its gradient with the error function; both have the latter here, as numbers of
// kernels are not what is simulated, and a run in float32 can then be compared with one on the CPU.
OP(aclnnGelu, (In a, Out out), { put(out, at::gelu(wide(a))); })
OP(aclnnGeluV2, (In a, int64_t approximate, Out out), { put(out, at::gelu(wide(a), approximate ? "tanh" : "none")); })
OP(aclnnGeluBackward, (In grad, In a, Out out), { put(out, at::gelu_backward(wide(grad), wide(a))); })
OP(aclnnGeluBackwardV2, (In grad, In a, Text approximate, Out out),
   { put(out, at::gelu_backward(wide(grad), wide(a), approximate)); })
OP(aclnnFastGelu, (In a, Out out), { put(out, wide(a) * at::sigmoid(wide(a) * 1.702)); })
OP(aclnnFastGeluBackward, (In grad, In a, Out out), {
    auto s = at::sigmoid(wide(a) * 1.702);
    put(out, wide(grad) * (s + 1.702 * wide(a) * s * (1 - s)));
})

// ---- softmax and losses

OP(aclnnSoftmax, (In a, int64_t dim, Out out), { put(out, at::softmax(wide(a), dim)); })
OP(aclnnSoftmaxBackward, (In grad, In y, int64_t dim, Out out),
   { put(out, at::_softmax_backward_data(wide(grad), wide(y), dim, wide(y).scalar_type())); })
OP(aclnnLogSoftmax, (In a, int64_t dim, Out out), { put(out, at::log_softmax(wide(a), dim)); })
OP(aclnnLogSoftmaxBackward, (In grad, In y, int64_t dim, Out out),
   { put(out, at::_log_softmax_backward_data(wide(grad), wide(y), dim, wide(y).scalar_type())); })

// The weights of the classes come even where the caller gave none: all 1.
OP(aclnnNLLLoss, (In a, In target, In w, int64_t reduction, int64_t ignored, Out out, Out total), {
    auto both = at::nll_loss_forward(wide(a), target.to(at::kLong), wide(w), reduction, ignored);
    put(out, get<0>(both));
    put(total, get<1>(both));
})
OP(aclnnNLLLossBackward, (In grad, In a, In target, In w, int64_t reduction, int64_t ignored, In total, Out out), {
    put(out, at::nll_loss_backward(wide(grad), wide(a), target.to(at::kLong), wide(w), reduction, ignored,
                                   wide(total).reshape({})));
})
OP(aclnnMseLoss, (In a, In target, int64_t reduction, Out out),
   { put(out, at::mse_loss(wide(a), wide(target), reduction)); })
OP(aclnnMseLossBackward, (In grad, In a, In target, int64_t reduction, Out out),
   { put(out, at::mse_loss_backward(wide(grad), wide(a), wide(target), reduction)); })
OP(aclnnL1Loss, (In a, In target, int64_t reduction, Out out),
   { put(out, at::l1_loss(wide(a), wide(target), reduction)); })
OP(aclnnL1LossBackward, (In grad, In a, In target, int64_t reduction, Out out), {
    auto each = wide(grad) * at::sign(wide(a) - wide(target));
    put(out, reduction == at::Reduction::Mean ? each / a.numel() : each);
})
OP(aclnnSmoothL1Loss, (In a, In target, int64_t reduction, float beta, Out out),
   { put(out, at::smooth_l1_loss(wide(a), wide(target), reduction, beta)); })
OP(aclnnSmoothL1LossBackward, (In grad, In a, In target, int64_t reduction, float beta, Out out),
   { put(out, at::smooth_l1_loss_backward(wide(grad), wide(a), wide(target), reduction, beta)); })
OP(aclnnBinaryCrossEntropyWithLogits, (In a, In target, MaybeIn w, MaybeIn positive, int64_t reduction, Out out),
   { put(out, at::binary_cross_entropy_with_logits(wide(a), wide(target), wide(w), wide(positive), reduction)); })
OP(aclnnBinaryCrossEntropyWithLogitsBackward,
   (In grad, In a, In target, MaybeIn w, MaybeIn positive, int64_t reduction, Out out), {
       auto s = at::sigmoid(wide(a));
       auto y = wide(target);
       auto each = positive ? s * (1 - y) - wide(*positive) * y * (1 - s) : s - y;
       if (w) each = each * wide(*w);
       each = each * wide(grad);
       put(out, reduction == at::Reduction::Mean ? each / a.numel() : each);
   })
OP(aclnnKlDiv, (In a, In target, int64_t reduction, bool log_target, Out out),
   { put(out, at::kl_div(wide(a), wide(target), reduction, log_target)); })
OP(aclnnKlDivBackward, (In grad, In a, In target, int64_t reduction, bool log_target, Out out), {
    auto y = wide(target);
    auto each = -wide(grad) * (log_target ? at::exp(y) : at::where(y > 0, y, at::zeros_like(y)));
    put(out, reduction == at::Reduction::Mean ? each / a.numel() : each);
})
