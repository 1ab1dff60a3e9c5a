// Whole steps of an optimizer.
#include "op.h"

using namespace cannsim;

// `step` is the number of steps before this one.
OP(aclnnApplyAdamWV2,
   (Out w, Out m, Out v, MaybeOut most, In grad, In step, float lr, float beta1, float beta2, float decay, float eps,
    bool amsgrad, bool maximize),
   {
       auto g = maximize ? -grad : Tensor(grad);
       auto t = step.to(at::kDouble).item<double>() + 1;
       m.lerp_(g.to(m.scalar_type()), 1.0 - beta1);
       v.mul_(beta2).addcmul_(g, g, 1.0 - beta2);
       if (amsgrad) put(most, at::maximum(*most, v));
       auto second = amsgrad ? *most : Tensor(v);
       auto denominator = second.sqrt() / std::sqrt(1 - std::pow(double(beta2), t)) + double(eps);
       w.mul_(1.0 - double(lr) * decay).addcdiv_(m, denominator, -double(lr) / (1 - std::pow(double(beta1), t)));
   })

// `grad_scale` divides the gradients, in place.
OP(aclnnFusedSgd,
   (OutList w, OutList grads, OutList momenta, MaybeIn grad_scale, float decay, float momentum, float lr,
    float dampening, bool nesterov, bool maximize, bool first),
   {
       for (size_t i = 0; i < w.size(); ++i) {
           if (grad_scale) grads[i].div_(*grad_scale);
           auto g = (maximize ? -grads[i] : grads[i]) + w[i] * double(decay);
           if (!momenta.empty()) {
               Tensor& v = momenta[i];
               put(v, first ? g : v * double(momentum) + g * (1.0 - dampening));
               g = nesterov ? g + v * double(momentum) : v;
           }
           w[i].sub_(g, double(lr));
       }
   })
