// Streams: each is a queue with a thread of its own, so that what torch_npu (or we) forgot to wait for shows as a wrong
// number.
//
// A task may begin late, by random numbers from CANNSIM_SEED: one in eight of a device's first stream, which computes,
// and all of the others, of which there are few (copies, collectives). With CANNSIM_SYNC=1 a task is done when it is
// put in.
#include <unistd.h>

#include <algorithm>
#include <chrono>

#include "runtime.h"

namespace cannsim {
namespace {

struct Streams {
    std::mutex mutex;
    std::vector<Stream*> all;  // never deleted: torch_npu keeps its own for ever, and threads may still be in them
    int next_number[64] = {};
};
Streams& streams() {
    static auto* all = new Streams;
    return *all;
}

Stream* make_stream(int index) {
    std::lock_guard<std::mutex> guard(streams().mutex);
    auto* made = new Stream(streams().next_number[index]++, index);
    streams().all.push_back(made);
    if (!device(index).first) device(index).first = made;
    return made;
}

std::vector<Stream*> streams_of(int index) {
    std::lock_guard<std::mutex> guard(streams().mutex);
    std::vector<Stream*> found;
    for (auto* stream : streams().all) {
        if (stream->device == index) found.push_back(stream);
    }
    return found;
}

uint64_t mixed(uint64_t x) {  // splitmix64's finalizer
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

// At the end of the process threads must not run into what libtorch has already taken down.
__attribute__((destructor)) void stop_all() {
    if (!owns_devices()) return;
    std::vector<Stream*> all;
    {
        std::lock_guard<std::mutex> guard(streams().mutex);
        all = streams().all;
    }
    for (auto* stream : all) stream->stop();
}

}  // namespace

Stream* stream_of(aclrtStream stream) {
    if (stream) return static_cast<Stream*>(stream);
    int index = current_device();
    if (index < 0) return nullptr;
    return device(index).first ? device(index).first : make_stream(index);
}

Stream* usable_stream(aclrtStream stream, const char* call, aclError* status) {
    auto* found = stream_of(stream);
    *status = OK;
    if (!found) {
        *status = fail(E_NO_CONTEXT, std::string(call) + " before aclrtSetDevice");
    } else if (found->device != current_device()) {
        *status =
            fail(E_RT_STREAM_CONTEXT, std::string(call) + " in a stream of device " + std::to_string(found->device) +
                                          " while device " + std::to_string(current_device()) + " is current");
    }
    return *status ? nullptr : found;
}

Failure Stream::put(Task task) {
    task.launched = now_in_nanoseconds();
    if (settings().synchronous) {
        int before = current_device();
        set_current_device(device);
        run(task);
        set_current_device(before);
        return failure();
    }
    std::lock_guard<std::mutex> guard(mutex_);
    if (!worker_.joinable() && !stop_) worker_ = std::thread([this] { loop(); });
    queue_.push_back(std::move(task));
    more_.notify_one();
    return failure_ ? failure_ : loss_of(device);
}

void Stream::run(const Task& task) {
    int64_t begun = now_in_nanoseconds();
    int status = task.run();
    if (!task.name.empty() && profiling()) {
        profile(task.name, device, number, {task.launched, begun, now_in_nanoseconds()});
    }
    if (status == OK || task.free_only) return;
    std::string text = take_error();
    std::lock_guard<std::mutex> guard(mutex_);
    if (!failure_) failure_ = {status, text};
}

unsigned Stream::delay() {
    uint64_t own = mixed(settings().seed << 16 | uint64_t(device) << 8 | uint64_t(number));
    uint64_t drawn = mixed(own + ++drawn_ * 0x9e3779b97f4a7c15ull);
    if (number == 0 && drawn % 8) return 0;
    return unsigned((drawn >> 16) % (settings().delay_us + 1ull));
}

void Stream::loop() {
    set_current_device(device);
    for (;;) {
        Task task;
        {
            std::unique_lock<std::mutex> guard(mutex_);
            busy_ = false;
            if (queue_.empty()) idle_.notify_all();
            more_.wait(guard, [this] { return stop_ || !queue_.empty(); });
            if (stop_) return;
            task = std::move(queue_.front());
            queue_.pop_front();
            busy_ = true;
        }
        if (!task.free_only && settings().delay_us) {
            if (unsigned late = delay()) usleep(late);
        }
        run(task);
    }
}

Failure Stream::wait(int milliseconds) {
    std::unique_lock<std::mutex> guard(mutex_);
    auto idle = [this] { return stop_ || (queue_.empty() && !busy_); };
    if (milliseconds < 0) {
        idle_.wait(guard, idle);
    } else if (!idle_.wait_for(guard, std::chrono::milliseconds(milliseconds), idle)) {
        return {ACL_ERROR_RT_STREAM_SYNC_TIMEOUT,
                "EE1002: a stream was not done in " + std::to_string(milliseconds) + " ms"};
    }
    return failure_ ? failure_ : loss_of(device);
}

bool Stream::done() {
    std::lock_guard<std::mutex> guard(mutex_);
    return queue_.empty() && !busy_;
}

Failure Stream::failure() {
    std::lock_guard<std::mutex> guard(mutex_);
    return failure_ ? failure_ : loss_of(device);
}

// What is queued is dropped; a thread that waits (for another rank, say) is left to the end of the process.
void Stream::stop() {
    std::unique_lock<std::mutex> guard(mutex_);
    stop_ = true;
    more_.notify_all();
    for (int i = 0; busy_ && i < 100; ++i) {
        guard.unlock();
        usleep(5000);
        guard.lock();
    }
    if (!worker_.joinable()) return;
    bool stuck = busy_;
    guard.unlock();
    if (stuck) {
        worker_.detach();
    } else {
        worker_.join();
    }
}

Failure wait_for_device(int index, int milliseconds) {
    auto begun = Clock::now();
    for (auto* stream : streams_of(index)) {
        int left = milliseconds;
        if (milliseconds >= 0) {
            auto gone = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - begun).count();
            left = std::max(0, milliseconds - int(gone));
        }
        if (auto failure = stream->wait(left)) return failure;
    }
    return loss_of(index);
}

}  // namespace cannsim

using namespace cannsim;

// ---- for the libraries beside this one

API int cannsim_submit(void* stream, int (*run)(void*), void* argument) {
    auto launch = take_launch();
    aclError status;
    auto* in = usable_stream(stream, launch.name.c_str(), &status);
    if (!in) {
        run(argument);  // it frees the argument
        return status;
    }
    if (!launch.failure && !launch.hangs) return report(in->put([=] { return run(argument); }, launch.name));
    return report(in->put([=] {
        while (launch.hangs) usleep(100000);
        run(argument);
        cannsim_error(launch.failure.text.c_str());
        return launch.failure.status;
    }));
}

API void cannsim_release(void* stream, void (*run)(void*), void* argument) {
    auto* in = stream_of(stream);
    if (!in) return run(argument);
    in->put_release([=] { return run(argument), OK; });
}

// ---- CANN's

API aclError aclrtCreateStreamWithConfig(aclrtStream* stream, uint32_t, uint32_t) {
    int index = current_device();
    if (index < 0) return fail(E_NO_CONTEXT, "a stream before aclrtSetDevice");
    if (auto lost = loss_of(index)) return report(lost);
    *stream = make_stream(index);
    return OK;
}
API aclError aclrtCreateStream(aclrtStream* stream) { return aclrtCreateStreamWithConfig(stream, 0, 0); }

API aclError aclrtSynchronizeStreamWithTimeout(aclrtStream stream, int32_t milliseconds) {
    aclError status;
    auto* of = usable_stream(stream, "aclrtSynchronizeStream", &status);
    if (!of) return status;
    count_sync(Sync::stream);
    return report(of->wait(milliseconds));
}
API aclError aclrtSynchronizeStream(aclrtStream stream) { return aclrtSynchronizeStreamWithTimeout(stream, -1); }

API aclError aclrtSynchronizeDeviceWithTimeout(int32_t milliseconds) {
    if (current_device() < 0) return fail(E_NO_CONTEXT, "aclrtSynchronizeDevice before aclrtSetDevice");
    count_sync(Sync::device);
    return report(wait_for_device(current_device(), milliseconds));
}
API aclError aclrtSynchronizeDevice() { return aclrtSynchronizeDeviceWithTimeout(-1); }

API aclError aclrtDestroyStream(aclrtStream stream) { return report(stream_of(stream)->wait()); }
API aclError aclrtDestroyStreamForce(aclrtStream) { return OK; }

API aclError aclrtStreamQuery(aclrtStream stream, aclrtStreamStatus* status) {
    auto* of = stream_of(stream);
    if (auto failure = of->failure()) return report(failure);
    *status = of->done() ? ACL_STREAM_STATUS_COMPLETE : ACL_STREAM_STATUS_NOT_READY;
    return OK;
}

API aclError aclrtStreamGetId(aclrtStream stream, int32_t* id) {
    *id = stream_of(stream)->number;
    return OK;
}

API aclError aclrtLaunchHostFunc(aclrtStream stream, aclrtHostFunc function, void* argument) {
    return report(stream_of(stream)->put([=] { return function(argument), OK; }));
}
API aclError aclrtLaunchCallback(aclrtCallback function, void* argument, aclrtCallbackBlockType, aclrtStream stream) {
    return aclrtLaunchHostFunc(stream, function, argument);
}
API aclError aclrtSubscribeReport(uint64_t, aclrtStream) { return OK; }
API aclError aclrtUnSubscribeReport(uint64_t, aclrtStream) { return OK; }

// Callbacks run in the stream's own thread, so there is never one to report.
API aclError aclrtProcessReport(int32_t milliseconds) {
    usleep(1000 * useconds_t(std::max(milliseconds, 1)));
    return ACL_ERROR_RT_THREAD_SUBSCRIBE;
}

// ---- accepted, with no effect

API aclError aclrtSetStreamFailureMode(aclrtStream, uint64_t) { return OK; }
API aclError aclrtSetStreamAttribute(aclrtStream, aclrtStreamAttr, aclrtStreamAttrValue*) { return OK; }
API aclError aclrtSetStreamOverflowSwitch(aclrtStream, uint32_t) { return OK; }
API aclError aclrtGetStreamOverflowSwitch(aclrtStream, uint32_t* flag) {
    *flag = 0;
    return OK;
}
