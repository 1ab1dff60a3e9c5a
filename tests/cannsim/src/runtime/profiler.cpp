// The profiler of CANN (libmsprofiler.so leads here): which task ran when in which stream, as a folder PROF_... in
// which the msprof beside it (msprof.py) finds a timeline. Times are those of the simulation, and say nothing of a
// device.
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <ctime>
#include <map>

#include "acl/acl_prof.h"
#include "runtime.h"
#include "third_party/acl/inc/profiling/aprof_pub.h"

struct aclprofConfig {
    std::vector<uint32_t> devices;
};
struct aclprofStepInfo {};

namespace cannsim {
namespace {

struct Task {
    std::string name;
    int device, stream;
    Span span;
};

struct Profiler {
    std::mutex mutex;
    std::string folder;  // PROF_...
    std::atomic<bool> on{false};
    std::vector<Task> tasks;
};
Profiler& profiler() {
    static auto* one = new Profiler;
    return *one;
}

std::string folder_name() {
    char stamp[32];
    time_t now = time(nullptr);
    strftime(stamp, sizeof stamp, "%Y%m%d%H%M%S", localtime(&now));
    return std::string("/PROF_000001_") + stamp + "000_CANNSIM" + std::to_string(getpid());
}

std::string microseconds(int64_t nanoseconds) {  // a double has too few digits
    char text[32];
    snprintf(text, sizeof text, "%lld.%03lld", (long long)(nanoseconds / 1000), (long long)(nanoseconds % 1000));
    return text;
}

// A JSON object for each task, for msprof.py.
void write_tasks(int index) {
    std::string folder = profiler().folder + "/device_" + std::to_string(index);
    mkdir(folder.c_str(), 0750);
    FILE* file = fopen((folder + "/cannsim.json").c_str(), "w");
    if (!file) return;
    const char* before = "[\n";
    for (auto& task : profiler().tasks) {
        if (task.device != index) continue;
        fprintf(file, "%s{\"name\": \"%s\", \"stream\": %d, \"launched\": \"%s\", \"begun\": \"%s\", \"took\": %s}",
                before, task.name.c_str(), task.stream, microseconds(task.span.launched).c_str(),
                microseconds(task.span.begun).c_str(), microseconds(task.span.ended - task.span.begun).c_str());
        before = ",\n";
    }
    fprintf(file, "%s", before[0] == '[' ? "[]\n" : "\n]\n");
    fclose(file);
}

}  // namespace

bool profiling() { return profiler().on; }

void profile(const std::string& name, int device, int stream, const Span& span) {
    std::lock_guard<std::mutex> guard(profiler().mutex);
    profiler().tasks.push_back({name, device, stream, span});
}

int64_t now_in_nanoseconds() {
    timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return int64_t(now.tv_sec) * 1000000000 + now.tv_nsec;
}

}  // namespace cannsim

using namespace cannsim;

API aclError aclprofInit(const char* path, size_t length) {
    std::lock_guard<std::mutex> guard(profiler().mutex);
    profiler().folder = std::string(path, strnlen(path, length)) + folder_name();
    profiler().tasks.clear();
    if (mkdir(profiler().folder.c_str(), 0750) || mkdir((profiler().folder + "/host").c_str(), 0750)) {
        return fail(ACL_ERROR_PROFILING_FAILURE, "EK0001: there can be no folder " + profiler().folder);
    }
    return OK;
}

API aclprofConfig* aclprofCreateConfig(uint32_t* devices, uint32_t count, aclprofAicoreMetrics,
                                       const aclprofAicoreEvents*, uint64_t) {
    return new aclprofConfig{{devices, devices + count}};
}
API aclError aclprofDestroyConfig(const aclprofConfig* config) {
    delete config;
    return OK;
}
API aclError aclprofSetConfig(aclprofConfigType, const char*, size_t) { return OK; }
API aclError aclprofWarmup(const aclprofConfig*) { return OK; }

API aclError aclprofStart(const aclprofConfig*) {
    profiler().on = true;
    return OK;
}

API aclError aclprofStop(const aclprofConfig* config) {
    profiler().on = false;
    std::lock_guard<std::mutex> guard(profiler().mutex);
    for (uint32_t index : config->devices) write_tasks(int(index));
    return OK;
}
API aclError aclprofFinalize() { return OK; }

API aclprofStepInfo* aclprofCreateStepInfo() { return new aclprofStepInfo; }
API void aclprofDestroyStepInfo(aclprofStepInfo* step) { delete step; }
API aclError aclprofGetStepTimestamp(aclprofStepInfo*, aclprofStepTag, aclrtStream) { return OK; }
API aclError aclprofMarkEx(const char*, size_t, aclrtStream) { return OK; }

// ---- what torch_npu reports of itself to CANN's profiler: not kept

API int32_t MsprofRegisterCallback(uint32_t, ProfCommandHandle) { return MSPROF_ERROR_NONE; }
API int32_t MsprofReportApi(uint32_t, const MsprofApi*) { return MSPROF_ERROR_NONE; }
API int32_t MsprofReportCompactInfo(uint32_t, const VOID_PTR, uint32_t) { return MSPROF_ERROR_NONE; }
API int32_t MsprofReportAdditionalInfo(uint32_t, const VOID_PTR, uint32_t) { return MSPROF_ERROR_NONE; }
API uint64_t MsprofGetHashId(const char* text, size_t length) { return std::hash<std::string>()({text, length}); }
API uint64_t MsprofSysCycleTime() { return uint64_t(now_in_nanoseconds()); }

// ---- the driver (libascend_hal.so leads here): so old that torch_npu takes the time from the host's clock

API int halGetAPIVersion(int* version) {
    *version = 0;
    return 0;
}
API int halGetDeviceInfo(uint32_t, int32_t, int32_t, int64_t* value) {
    *value = 0;
    return 0;
}
