// What the files of libascendcl.so share: settings, the state of each device, streams, counts and faults.
#pragma once
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "../abi.h"
#include "acl/acl.h"

namespace cannsim {

// ---- settings.cpp: the environment variables, read once

struct Settings {
    int devices;             // CANNSIM_DEVICES
    std::vector<int> cards;  // the cards that ASCEND_RT_VISIBLE_DEVICES leaves, by their numbers; device i is cards[i]
    bool synchronous;        // CANNSIM_SYNC
    unsigned delay_us;       // CANNSIM_DELAY_US
    uint64_t seed;           // CANNSIM_SEED
    size_t memory;           // CANNSIM_MEMORY_MB, in bytes
    std::string soc;         // CANNSIM_SOC
    std::string cann;        // CANNSIM_CANN
    std::string counts;      // CANNSIM_COUNTS
    std::string fault;       // CANNSIM_FAULT
    bool log;                // CANNSIM_LOG
};
const Settings& settings();
bool owns_devices();  // whether this process called aclInit: a fork of it (a DataLoader worker) has no threads of ours

// ---- errors.cpp: a status, and what aclGetRecentErrMsg says of it

struct Failure {
    aclError status = OK;
    std::string text;
    explicit operator bool() const { return status != OK; }
};
aclError fail(aclError status, const std::string& text);  // for this thread
aclError report(const Failure& failure);                  // of a stream or a device, which this thread gets to hear of
std::string take_error();                                 // what cannsim_error said in this thread

// ---- devices.cpp

struct Device {
    std::mutex mutex;
    Failure lost;               // it answers nothing any more
    size_t used = 0, peak = 0;  // bytes that aclrtMalloc and aclrtMallocPhysical gave
    long launches = 0;
    bool overflow = false;          // the register
    class Stream* first = nullptr;  // what a null stream means
    std::atomic<bool> is_lost{false};
};
Device& device(int index);
int current_device();  // -1: none yet
void set_current_device(int index);
Failure loss_of(int device);  // falsy while it is there

// ---- streams.cpp

using Clock = std::chrono::steady_clock;

class Stream {
public:
    Stream(int number, int device) : number(number), device(device) {}
    // -> the failure so far; what is put into a failed stream still runs, as it may free something
    Failure put(std::function<int()> task, std::string name = {}) {
        return put(Task{std::move(task), std::move(name)});
    }
    void put_release(std::function<int()> task) { put(Task{std::move(task), {}, true}); }
    Failure wait(int milliseconds = -1);
    bool done();
    Failure failure();
    void stop();
    const int number, device;

private:
    struct Task {
        std::function<int()> run;
        std::string name;        // for the profiler
        bool free_only = false;  // never late, and cannot fail
        int64_t launched = 0;
    };
    Failure put(Task task);
    void loop();
    void run(const Task& task);
    unsigned delay();

    std::mutex mutex_;
    std::condition_variable more_, idle_;
    std::deque<Task> queue_;
    bool busy_ = false, stop_ = false;
    Failure failure_;
    uint64_t drawn_ = 0;  // random numbers so far
    std::thread worker_;
};
// The stream that a call works on; null where there is none for the current device, and the thread's error says why.
Stream* usable_stream(aclrtStream stream, const char* call, aclError* status);
Stream* stream_of(aclrtStream stream);  // null: the default stream of the current device; null where there is none
Failure wait_for_device(int device, int milliseconds = -1);

// ---- counts.cpp

enum class Copy { host_to_host, host_to_device, device_to_host, device_to_device };
enum class Sync { stream, device, event, copy };
void count_launch(const char* name);
void count_copy(Copy direction, size_t bytes);
void count_sync(Sync kind);
void write_counts();  // to the file of CANNSIM_COUNTS, if there is to be one

// ---- profiler.cpp

struct Span {  // of a task; nanoseconds of the host's clock
    int64_t launched = 0, begun = 0, ended = 0;
};
bool profiling();
void profile(const std::string& name, int device, int stream, const Span& span);
int64_t now_in_nanoseconds();

// ---- faults.cpp

struct Launch {  // what cannsim_count_launch said of the cannsim_submit that follows
    std::string name;
    Failure failure;
    bool hangs = false;
};
Launch take_launch();
void note_launch(const char* name);  // may lose the device
bool malloc_fails();                 // this call of aclrtMalloc
Failure busy(int card);              // what aclrtSetDevice says of a card that another process uses
std::string fault_mistake();         // of CANNSIM_FAULT, in a sentence; empty if it is well formed

}  // namespace cannsim
