// The collectives. Those that reduce, and those in which all ranks get the same, go through the slots piece by piece:
// all write, all meet, all read, all meet. The others are made of transfers from one rank to another.
#include <algorithm>
#include <cstring>
#include <memory>

#include "hccl.h"

namespace cannsim::hccl {
namespace {

struct Job {
    Communicator* c;
    std::function<int(Communicator&)> body;
};

int run_job(void* argument) {
    std::unique_ptr<Job> job(static_cast<Job*>(argument));
    int status = job->body(*job->c);
    --job->c->running;
    return status;
}

char* bytes_at(void* buffer, size_t offset) { return static_cast<char*>(buffer) + offset; }
const char* bytes_at(const void* buffer, size_t offset) { return static_cast<const char*>(buffer) + offset; }
uint64_t at(const void* numbers, size_t i) { return static_cast<const uint64_t*>(numbers)[i]; }

// What AllReduce and Reduce have in common: receives() says whether this rank wants the result.
int reduce_all(Communicator& c, const Call& call, const void* in, void* out, bool receives) {
    auto type = HcclDataType(call.type);
    size_t width = size_of(type), most = slot_bytes / width;
    for (size_t done = 0; done < call.count; done += most) {
        size_t n = std::min<size_t>(most, call.count - done);
        memcpy(c.slot(c.rank), bytes_at(in, done * width), n * width);
        if (int status = done ? c.meet() : c.meet_for(call)) return status;
        if (receives) reduce_slots(c, type, HcclReduceOp(call.op), n, 0, bytes_at(out, done * width));
        if (int status = c.meet()) return status;
    }
    return OK;
}

int broadcast(Communicator& c, const Call& call, void* buffer) {
    size_t all = call.count * size_of(HcclDataType(call.type));
    for (size_t done = 0; done < all; done += slot_bytes) {
        size_t n = std::min(slot_bytes, all - done);
        if (c.rank == call.root) memcpy(c.slot(call.root), bytes_at(buffer, done), n);
        if (int status = done ? c.meet() : c.meet_for(call)) return status;
        if (c.rank != call.root) memcpy(bytes_at(buffer, done), c.slot(call.root), n);
        if (int status = c.meet()) return status;
    }
    return OK;
}

int all_gather(Communicator& c, const Call& call, const void* in, void* out) {
    size_t all = call.count * size_of(HcclDataType(call.type));
    for (size_t done = 0; done < all; done += slot_bytes) {
        size_t n = std::min(slot_bytes, all - done);
        memcpy(c.slot(c.rank), bytes_at(in, done), n);
        if (int status = done ? c.meet() : c.meet_for(call)) return status;
        for (uint32_t r = 0; r < c.ranks; ++r) memcpy(bytes_at(out, r * all + done), c.slot(r), n);
        if (int status = c.meet()) return status;
    }
    return OK;
}

// counts[r], offsets[r]: which part of every rank's input is reduced for rank r
int reduce_scatter(Communicator& c, const Call& call, const void* in, const std::vector<uint64_t>& counts,
                   const std::vector<uint64_t>& offsets, void* out) {
    auto type = HcclDataType(call.type);
    size_t width = size_of(type), most = slot_bytes / width / c.ranks;
    uint64_t longest = *std::max_element(counts.begin(), counts.end());
    auto part = [&](uint32_t r, size_t done) {
        return done < counts[r] ? std::min<size_t>(most, counts[r] - done) : 0;
    };
    for (size_t done = 0; done < longest; done += most) {
        for (uint32_t r = 0; r < c.ranks; ++r) {
            memcpy(c.slot(c.rank) + r * most * width, bytes_at(in, (offsets[r] + done) * width), part(r, done) * width);
        }
        if (int status = done ? c.meet() : c.meet_for(call)) return status;
        reduce_slots(c, type, HcclReduceOp(call.op), part(c.rank, done), c.rank * most * width,
                     bytes_at(out, done * width));
        if (int status = c.meet()) return status;
    }
    return OK;
}

// Transfers between all pairs of ranks: what this one sends to each, and gets from each, in bytes.
int exchange(Communicator& c, const char* in, const std::vector<size_t>& send_bytes, const std::vector<size_t>& send_at,
             char* out, const std::vector<size_t>& receive_bytes, const std::vector<size_t>& receive_at) {
    std::vector<Transfer> transfers;
    for (uint32_t r = 0; r < c.ranks; ++r) {
        if (r == c.rank) {
            if (send_bytes[r]) memmove(out + receive_at[r], in + send_at[r], send_bytes[r]);
            continue;
        }
        transfers.push_back({true, const_cast<char*>(in) + send_at[r], send_bytes[r], r});
        transfers.push_back({false, out + receive_at[r], receive_bytes[r], r});
    }
    return run_transfers(c, std::move(transfers));
}

std::vector<size_t> scaled(const void* numbers, uint32_t ranks, size_t width) {
    std::vector<size_t> bytes(ranks);
    for (uint32_t r = 0; r < ranks; ++r) bytes[r] = at(numbers, r) * width;
    return bytes;
}

uint32_t ranks_of(HcclComm comm) { return static_cast<Communicator*>(comm)->ranks; }

}  // namespace

HcclResult submit(const char* name, HcclComm comm, aclrtStream stream, std::function<int(Communicator&)> body) {
    auto* c = static_cast<Communicator*>(comm);
    ++c->running;
    cannsim_count_launch(name);
    int status = cannsim_submit(stream, run_job, new Job{c, std::move(body)});
    return status ? HCCL_E_RUNTIME : HCCL_SUCCESS;
}

}  // namespace cannsim::hccl

using namespace cannsim::hccl;

API HcclResult HcclAllReduce(void* in, void* out, uint64_t count, HcclDataType type, HcclReduceOp op, HcclComm comm,
                             aclrtStream stream) {
    if (auto wrong = check_reduction("HcclAllReduce", type, op)) return wrong;
    Call call{HCCL_CMD_ALLREDUCE, type, op, 0, count};
    return submit("HcclAllReduce", comm, stream, [=](Communicator& c) { return reduce_all(c, call, in, out, true); });
}

API HcclResult HcclReduce(void* in, void* out, uint64_t count, HcclDataType type, HcclReduceOp op, uint32_t root,
                          HcclComm comm, aclrtStream stream) {
    if (auto wrong = check_reduction("HcclReduce", type, op)) return wrong;
    Call call{HCCL_CMD_REDUCE, type, op, root, count};
    return submit("HcclReduce", comm, stream,
                  [=](Communicator& c) { return reduce_all(c, call, in, out, c.rank == root); });
}

API HcclResult HcclBroadcast(void* buffer, uint64_t count, HcclDataType type, uint32_t root, HcclComm comm,
                             aclrtStream stream) {
    if (auto wrong = check_type("HcclBroadcast", type)) return wrong;
    Call call{HCCL_CMD_BROADCAST, type, 0, root, count};
    return submit("HcclBroadcast", comm, stream, [=](Communicator& c) { return broadcast(c, call, buffer); });
}

API HcclResult HcclAllGather(void* in, void* out, uint64_t count, HcclDataType type, HcclComm comm,
                             aclrtStream stream) {
    if (auto wrong = check_type("HcclAllGather", type)) return wrong;
    Call call{HCCL_CMD_ALLGATHER, type, 0, 0, count};
    return submit("HcclAllGather", comm, stream, [=](Communicator& c) { return all_gather(c, call, in, out); });
}

API HcclResult HcclAllGatherV(void* in, uint64_t count, void* out, const void* counts, const void* offsets,
                              HcclDataType type, HcclComm comm, aclrtStream stream) {
    if (auto wrong = check_type("HcclAllGatherV", type)) return wrong;
    size_t width = size_of(type);
    auto bytes = scaled(counts, ranks_of(comm), width), places = scaled(offsets, ranks_of(comm), width);
    return submit("HcclAllGatherV", comm, stream, [=](Communicator& c) {
        std::vector<size_t> mine(c.ranks, count * width), start(c.ranks, 0);
        return exchange(c, static_cast<char*>(in), mine, start, static_cast<char*>(out), bytes, places);
    });
}

API HcclResult HcclReduceScatter(void* in, void* out, uint64_t count, HcclDataType type, HcclReduceOp op, HcclComm comm,
                                 aclrtStream stream) {
    if (auto wrong = check_reduction("HcclReduceScatter", type, op)) return wrong;
    Call call{HCCL_CMD_REDUCE_SCATTER, type, op, 0, count};
    std::vector<uint64_t> counts(ranks_of(comm), count), offsets(ranks_of(comm));
    for (size_t r = 0; r < offsets.size(); ++r) offsets[r] = r * count;
    return submit("HcclReduceScatter", comm, stream,
                  [=](Communicator& c) { return reduce_scatter(c, call, in, counts, offsets, out); });
}

API HcclResult HcclReduceScatterV(void* in, const void* counts, const void* offsets, void* out, uint64_t,
                                  HcclDataType type, HcclReduceOp op, HcclComm comm, aclrtStream stream) {
    if (auto wrong = check_reduction("HcclReduceScatterV", type, op)) return wrong;
    auto all = scaled(counts, ranks_of(comm), 1), places = scaled(offsets, ranks_of(comm), 1);
    Call call{HCCL_CMD_REDUCE_SCATTER_V, type, op, 0, 0};
    return submit("HcclReduceScatterV", comm, stream, [=](Communicator& c) {
        return reduce_scatter(c, call, in, {all.begin(), all.end()}, {places.begin(), places.end()}, out);
    });
}

API HcclResult HcclScatter(void* in, void* out, uint64_t count, HcclDataType type, uint32_t root, HcclComm comm,
                           aclrtStream stream) {
    if (auto wrong = check_type("HcclScatter", type)) return wrong;
    size_t bytes = count * size_of(type);
    return submit("HcclScatter", comm, stream, [=](Communicator& c) {
        std::vector<size_t> sent(c.ranks, c.rank == root ? bytes : 0), from(c.ranks), got(c.ranks), to(c.ranks, 0);
        for (uint32_t r = 0; r < c.ranks; ++r) from[r] = r * bytes;
        got[root] = bytes;
        return exchange(c, static_cast<char*>(in), sent, from, static_cast<char*>(out), got, to);
    });
}

API HcclResult HcclAlltoAllV(const void* in, const void* send_counts, const void* send_at, HcclDataType send_type,
                             const void* out, const void* receive_counts, const void* receive_at,
                             HcclDataType receive_type, HcclComm comm, aclrtStream stream) {
    if (auto wrong = check_type("HcclAlltoAllV", send_type)) return wrong;
    uint32_t n = ranks_of(comm);
    size_t w = size_of(send_type), v = size_of(receive_type);
    auto sent = scaled(send_counts, n, w), from = scaled(send_at, n, w);
    auto got = scaled(receive_counts, n, v), to = scaled(receive_at, n, v);
    return submit("HcclAlltoAllV", comm, stream, [=](Communicator& c) {
        return exchange(c, static_cast<const char*>(in), sent, from, static_cast<char*>(const_cast<void*>(out)), got,
                        to);
    });
}

API HcclResult HcclAlltoAll(const void* in, uint64_t count, HcclDataType type, const void* out, uint64_t, HcclDataType,
                            HcclComm comm, aclrtStream stream) {
    if (auto wrong = check_type("HcclAlltoAll", type)) return wrong;
    size_t bytes = count * size_of(type);
    return submit("HcclAlltoAll", comm, stream, [=](Communicator& c) {
        std::vector<size_t> parts(c.ranks, bytes), places(c.ranks);
        for (uint32_t r = 0; r < c.ranks; ++r) places[r] = r * bytes;
        return exchange(c, static_cast<const char*>(in), parts, places, static_cast<char*>(const_cast<void*>(out)),
                        parts, places);
    });
}

API HcclResult HcclBarrier(HcclComm comm, aclrtStream stream) {
    return submit("HcclBarrier", comm, stream,
                  [](Communicator& c) { return c.meet_for({HCCL_CMD_BARRIER, 0, 0, 0, 0}); });
}
