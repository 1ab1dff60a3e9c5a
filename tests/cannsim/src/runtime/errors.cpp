// What went wrong, for the thread that asks: a status is an int, its words are a call later.
#include <unistd.h>

#include <cstdio>
#include <utility>

#include "runtime.h"

namespace cannsim {
namespace {
thread_local std::string t_text;             // for aclGetRecentErrMsg
thread_local aclError t_last = ACL_SUCCESS;  // for aclrtGetLastError: failures of the device alone
}  // namespace

aclError fail(aclError status, const std::string& text) {
    cannsim_error(text.c_str());
    cannsim_log((std::to_string(status) + " " + t_text).c_str());
    return status;
}

aclError report(const Failure& failure) {
    if (!failure) return OK;
    t_text = failure.text;
    return t_last = failure.status;
}

std::string take_error() { return std::exchange(t_text, {}); }

}  // namespace cannsim

using namespace cannsim;

API void cannsim_error(const char* text) { t_text = text; }

API void cannsim_log(const char* text) {
    if (settings().log) fprintf(stderr, "CANNSIM %d: %s\n", getpid(), text);
}

API const char* aclGetRecentErrMsg() {
    static thread_local std::string given;
    given = take_error();
    if (!given.empty()) given = "cannsim: " + given;
    return given.c_str();
}

API aclError aclrtPeekAtLastError(aclrtLastErrLevel) { return t_last; }
API aclError aclrtGetLastError(aclrtLastErrLevel) { return std::exchange(t_last, OK); }

// For what link_names.py defines: names that the wheel is linked with, and that nothing here does.
API int cannsim_not_simulated(const char* name) { return fail(E_FEATURE, std::string(name) + " is not simulated"); }
