// Events. A record makes a new point in a stream; waits and queries mean the latest point recorded before them.
#include "runtime.h"

namespace cannsim {
namespace {

struct Point {
    std::mutex mutex;
    std::condition_variable reached;
    bool done = false;
    Clock::time_point at;
    Stream* stream;

    explicit Point(Stream* stream) : stream(stream) {}
    void reach() {
        std::lock_guard<std::mutex> guard(mutex);
        at = Clock::now();
        done = true;
        reached.notify_all();
    }
    // -> why the stream failed before it came here, if it did
    Failure wait() {
        std::unique_lock<std::mutex> guard(mutex);
        reached.wait(guard, [this] { return done; });
        return stream->failure();
    }
    bool is_done() {
        std::lock_guard<std::mutex> guard(mutex);
        return done;
    }
};

struct Event {
    explicit Event(uint32_t flags) : flags(flags) {}
    const uint32_t flags;
    std::mutex mutex;
    std::shared_ptr<Point> last;
};

std::shared_ptr<Point> last_of(aclrtEvent event) {
    std::lock_guard<std::mutex> guard(static_cast<Event*>(event)->mutex);
    return static_cast<Event*>(event)->last;
}

aclError create(aclrtEvent* event, uint32_t flags) {
    if (current_device() < 0) return fail(E_NO_CONTEXT, "an event before aclrtSetDevice");
    *event = new Event(flags);
    return OK;
}

// -> whether the event's last point is reached, in *done; of an event that was never recorded it is
aclError query(aclrtEvent event, bool* done) {
    auto point = last_of(event);
    *done = !point || point->is_done();
    return point ? report(point->stream->failure()) : OK;
}

}  // namespace
}  // namespace cannsim

using namespace cannsim;

API aclError aclrtCreateEvent(aclrtEvent* event) { return create(event, ACL_EVENT_SYNC | ACL_EVENT_TIME_LINE); }
API aclError aclrtCreateEventWithFlag(aclrtEvent* event, uint32_t flags) { return create(event, flags); }
API aclError aclrtCreateEventExWithFlag(aclrtEvent* event, uint32_t flags) { return create(event, flags); }
API aclError aclrtDestroyEvent(aclrtEvent event) {
    delete static_cast<Event*>(event);
    return OK;
}
API aclError aclrtResetEvent(aclrtEvent, aclrtStream) { return OK; }

API aclError aclrtRecordEvent(aclrtEvent event, aclrtStream stream) {
    aclError status;
    auto* in = usable_stream(stream, "aclrtRecordEvent", &status);
    if (!in) return status;
    auto point = std::make_shared<Point>(in);
    {
        std::lock_guard<std::mutex> guard(static_cast<Event*>(event)->mutex);
        static_cast<Event*>(event)->last = point;
    }
    return report(in->put([point] { return point->reach(), OK; }));
}

// A stream that waits for one that failed has failed too: it never gets what it waits for.
API aclError aclrtStreamWaitEvent(aclrtStream stream, aclrtEvent event) {
    aclError status;
    auto* in = usable_stream(stream, "aclrtStreamWaitEvent", &status);
    if (!in) return status;
    auto point = last_of(event);
    if (!point) return OK;
    return report(in->put([point] { return report(point->wait()); }));
}

API aclError aclrtSynchronizeEvent(aclrtEvent event) {
    count_sync(Sync::event);
    auto point = last_of(event);
    return point ? report(point->wait()) : OK;
}

API aclError aclrtQueryEventStatus(aclrtEvent event, aclrtEventRecordedStatus* status) {
    bool done;
    auto failed = query(event, &done);
    *status = done ? ACL_EVENT_RECORDED_STATUS_COMPLETE : ACL_EVENT_RECORDED_STATUS_NOT_READY;
    return failed;
}

API aclError aclrtQueryEventWaitStatus(aclrtEvent event, aclrtEventWaitStatus* status) {
    bool done;
    auto failed = query(event, &done);
    *status = done ? ACL_EVENT_WAIT_STATUS_COMPLETE : ACL_EVENT_WAIT_STATUS_NOT_READY;
    return failed;
}

API aclError aclrtEventElapsedTime(float* milliseconds, aclrtEvent from, aclrtEvent to) {
    auto first = last_of(from), last = last_of(to);
    bool timed = (static_cast<Event*>(from)->flags & static_cast<Event*>(to)->flags & ACL_EVENT_TIME_LINE) != 0;
    if (!timed || !first || !last || !first->is_done() || !last->is_done()) {
        return fail(ACL_ERROR_RT_EVENT_TIMESTAMP_INVALID, "the time of an event that was not recorded with its time");
    }
    *milliseconds = std::chrono::duration<float, std::milli>(last->at - first->at).count();
    return OK;
}

API aclError aclrtEventGetTimestamp(aclrtEvent event, uint64_t* microseconds) {
    auto point = last_of(event);
    if (!point || !point->is_done()) {
        return fail(ACL_ERROR_RT_EVENT_TIMESTAMP_INVALID, "the time of an event that was not recorded");
    }
    *microseconds =
        uint64_t(std::chrono::duration_cast<std::chrono::microseconds>(point->at.time_since_epoch()).count());
    return OK;
}
