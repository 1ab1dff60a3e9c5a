// The environment variables of the simulated CANN, and what torch_npu sets and asks without any effect on results.
#include <unistd.h>

#include <cstdarg>
#include <cstdlib>
#include <cstring>
#include <map>
#include <sstream>

#include "acl/acl_op_compiler.h"
#include "runtime.h"

namespace cannsim {
namespace {

std::string text_of(const char* name, const char* otherwise) {
    const char* value = getenv(name);
    return value && *value ? value : otherwise;
}

unsigned long number_of(const char* name, unsigned long otherwise) {
    const char* value = getenv(name);
    return value && *value ? strtoul(value, nullptr, 10) : otherwise;
}

// As CANN reads it: the list ends at the first thing that is not a greater number than the one before.
std::vector<int> visible_cards(int devices) {
    std::vector<int> cards;
    const char* list = getenv("ASCEND_RT_VISIBLE_DEVICES");
    if (!list) {
        for (int i = 0; i < devices; ++i) cards.push_back(i);
        return cards;
    }
    std::stringstream parts(list);
    std::string part;
    while (std::getline(parts, part, ',')) {
        char* end;
        long card = strtol(part.c_str(), &end, 10);
        bool number = !part.empty() && part.find_first_not_of("0123456789") == std::string::npos && !*end;
        if (!number || card >= devices || (!cards.empty() && card <= cards.back())) break;
        cards.push_back(int(card));
    }
    return cards;
}

Settings read_settings() {
    Settings s;
    s.devices = int(number_of("CANNSIM_DEVICES", 8));
    s.cards = visible_cards(s.devices);
    s.synchronous = number_of("CANNSIM_SYNC", 0) != 0;
    s.delay_us = unsigned(number_of("CANNSIM_DELAY_US", 100));
    s.seed = number_of("CANNSIM_SEED", 0);
    s.memory = size_t(number_of("CANNSIM_MEMORY_MB", 65536)) << 20;
    s.soc = text_of("CANNSIM_SOC", "Ascend910B3");
    s.cann = text_of("CANNSIM_CANN", "9.1.0");
    s.counts = text_of("CANNSIM_COUNTS", "");
    s.fault = text_of("CANNSIM_FAULT", "");
    s.log = number_of("CANNSIM_LOG", 0) != 0;
    return s;
}

struct Options {
    std::mutex mutex;
    bool up = false;
    pid_t owner = 0;
    std::map<int, int64_t> system;
    std::map<int, std::string> compiler;
};
Options& options() {
    static auto* all = new Options;  // never destroyed: threads of torch_npu still ask at the end of the process
    return *all;
}

}  // namespace

const Settings& settings() {
    static const auto* all = new Settings(read_settings());
    return *all;
}

bool owns_devices() { return options().owner == getpid(); }

}  // namespace cannsim

using namespace cannsim;

API const char* cannsim_soc() { return settings().soc.c_str(); }

// Ascend910A, Ascend910B (so it was once called), Ascend910ProA, ..., but not Ascend910B1 and its like.
API bool cannsim_first_generation() {
    const auto& soc = settings().soc;
    bool second = soc.rfind("Ascend910B", 0) == 0 && soc.size() > 10;
    return soc.rfind("Ascend910", 0) == 0 && !second && soc.rfind("Ascend910_", 0) != 0;
}

API aclError aclInit(const char*) {
    auto& o = options();
    std::lock_guard<std::mutex> guard(o.mutex);
    if (o.up) return E_REPEAT_INIT;
    if (auto mistake = fault_mistake(); !mistake.empty()) return fail(E_PARAM, mistake);
    o.up = true;
    o.owner = getpid();
    return OK;
}

API aclError aclFinalize() {
    write_counts();
    std::lock_guard<std::mutex> guard(options().mutex);
    options().up = false;
    return OK;
}

API void aclAppLog(aclLogLevel level, const char* function, const char*, uint32_t, const char* format, ...) {
    if (!settings().log || level < ACL_WARNING) return;
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    cannsim_log((std::string("torch_npu, ") + function + ": " + text).c_str());
}

API const char* aclrtGetSocName() { return cannsim_soc(); }

API aclError aclsysGetCANNVersion(aclCANNPackageName, aclCANNPackageVersion* version) {
    memset(version, 0, sizeof *version);
    snprintf(version->version, sizeof version->version, "%s", settings().cann.c_str());
    return OK;
}

API aclError aclsysGetVersionStr(char*, char* version) {
    snprintf(version, ACL_PKG_VERSION_MAX_SIZE, "%s", settings().cann.c_str());
    return OK;
}

API aclError aclGetCannAttribute(aclCannAttr attribute, int32_t* value) {
    bool newer = attribute == ACL_CANN_ATTR_INF_NAN || attribute == ACL_CANN_ATTR_BF16;
    *value = newer && !cannsim_first_generation();
    return OK;
}

API aclError aclGetCannAttributeList(const aclCannAttr** list, size_t* count) {
    static const aclCannAttr all[] = {ACL_CANN_ATTR_INF_NAN, ACL_CANN_ATTR_BF16, ACL_CANN_ATTR_JIT_COMPILE};
    *list = all;
    *count = 3;
    return OK;
}

// ---- kept and given back, with no effect

static aclError keep(aclSysParamOpt option, int64_t value) {
    std::lock_guard<std::mutex> guard(options().mutex);
    options().system[option] = value;
    return OK;
}

static aclError give_back(aclSysParamOpt option, int64_t* value) {
    std::lock_guard<std::mutex> guard(options().mutex);
    *value = options().system[option];
    return OK;
}

API aclError aclrtCtxSetSysParamOpt(aclSysParamOpt option, int64_t value) { return keep(option, value); }
API aclError aclrtSetSysParamOpt(aclSysParamOpt option, int64_t value) { return keep(option, value); }
API aclError aclrtCtxGetSysParamOpt(aclSysParamOpt option, int64_t* value) { return give_back(option, value); }
API aclError aclrtGetSysParamOpt(aclSysParamOpt option, int64_t* value) { return give_back(option, value); }

API aclError aclSetCompileopt(aclCompileOpt option, const char* value) {
    std::lock_guard<std::mutex> guard(options().mutex);
    options().compiler[option] = value;
    return OK;
}

API size_t aclGetCompileoptSize(aclCompileOpt option) {
    std::lock_guard<std::mutex> guard(options().mutex);
    return options().compiler[option].size() + 1;
}

API aclError aclGetCompileopt(aclCompileOpt option, char* value, size_t room) {
    std::lock_guard<std::mutex> guard(options().mutex);
    snprintf(value, room, "%s", options().compiler[option].c_str());
    return OK;
}

// ---- accepted, with no effect

API aclError aclrtSetDeviceSatMode(aclrtFloatOverflowMode) { return OK; }
API aclError aclrtSetOpExecuteTimeOut(uint32_t) { return OK; }
API aclError aclrtSetOpWaitTimeout(uint32_t) { return OK; }
API aclError aclrtSetOpExecuteTimeOutV2(uint64_t timeout, uint64_t* actual) {
    *actual = timeout;
    return OK;
}
API aclError aclmdlInitDump() { return OK; }
API aclError aclmdlFinalizeDump() { return OK; }
API aclError aclmdlSetDump(const char*) { return OK; }
