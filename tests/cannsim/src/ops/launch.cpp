// How an operator is planned (aclnnXGetWorkspaceSize) and launched (aclnnX): checks, counts, failures, and the overflow
// of float16 on a chip that has no infinity.
#include <cmath>

#include "dtypes.h"
#include "op.h"

struct aclOpExecutor {
    const char* name;
    cannsim::Body body;
    std::vector<at::Tensor> halves;  // float16 tensors that it writes, on a chip whose float16 saturates
};

namespace cannsim {
namespace {

int fail(const char* name, const std::string& what, int status) {
    std::string text = std::string("EZ1001: ") + name + ": " + what;
    cannsim_error(text.c_str());
    cannsim_log(text.c_str());
    return status;
}

// On a 910A float16 has no infinity: a result that overflows becomes the largest number, and the chip's register says
// so. (The chip makes 0 of a NaN; here it stays, as NaN is what memory holds that nobody wrote.)
void saturate(const Tensor& half) {
    if (at::isfinite(half).all().item<bool>()) return;
    half.clamp_(-65504.0, 65504.0);
    cannsim_overflow_set();
}

int run(void* argument) {
    std::unique_ptr<aclOpExecutor> executor(static_cast<aclOpExecutor*>(argument));
    at::AutoDispatchBelowADInplaceOrView no_autograd;
    try {
        executor->body();
        for (const Tensor& half : executor->halves) saturate(half);
        return OK;
    } catch (const c10::Error& error) {
        return fail(executor->name, error.what_without_backtrace(), E_ACLNN_INNER);
    } catch (const std::exception& error) {
        return fail(executor->name, error.what(), E_ACLNN_INNER);
    }
}

}  // namespace

int plan(const char* name, const std::function<Body(Arguments&)>& take, uint64_t* workspace, aclOpExecutor** executor) {
    Arguments seen;
    *workspace = 0;
    try {
        Body body = take(seen);
        std::string refused = refusal(name, seen);
        if (!refused.empty()) return fail(name, refused, E_ACLNN_PARAM);
        auto* made = new aclOpExecutor{name, std::move(body), {}};
        for (const Seen& argument : seen)
            if (argument.written && argument.tensor->type == ACL_FLOAT16 && cannsim_first_generation())
                made->halves.push_back(argument.tensor->view);
        *executor = made;
        return OK;
    } catch (const c10::Error& error) {
        return fail(name, error.what_without_backtrace(), E_ACLNN_NULLPTR);
    }
}

int launch(aclOpExecutor* executor, aclrtStream stream) {
    cannsim_count_launch(executor->name);
    return cannsim_submit(stream, run, executor);
}

}  // namespace cannsim

API int aclDestroyAclOpExecutor(aclOpExecutor*) { return OK; }  // a launch frees its own

API int cannsim_unknown(const char* name) {
    return cannsim::fail(name, "this operator is not simulated", E_ACLNN_PARAM);
}
