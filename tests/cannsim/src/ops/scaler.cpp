// What GradScaler needs.
#include "op.h"

using namespace cannsim;

// Divides all gradients by the scale; `found` becomes 1 where one of them was not finite, or stays.
OP(aclnnForeachNonFiniteCheckAndUnscale, (OutList grads, Out found, In inverse), {
    double factor = inverse.item<float>();
    for (Tensor& grad : grads) {
        if (!at::isfinite(grad).all().item<bool>()) found.fill_(1);
        grad.mul_(factor);
    }
})
OP(aclnnAmpUpdateScale,
   (In scale, In tracker, In found, double growth, double backoff, int64_t interval, Out new_scale, Out new_tracker), {
       auto s = scale.clone();
       auto t = tracker.clone();
       at::_amp_update_scale_(s, t, found, growth, backoff, interval);
       put(new_scale, s);
       put(new_tracker, t);
   })
