// What the files of libhccl.so share: a communicator is a memory that all its ranks have mapped.
#pragma once
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "../abi.h"
#include "third_party/hccl/inc/hccl/hccl.h"

namespace cannsim::hccl {

constexpr uint32_t most_ranks = 64;
constexpr size_t slot_bytes = 512 << 10;    // of each rank, in which a collective passes through piece by piece
constexpr size_t channel_bytes = 16 << 10;  // from each rank to each, for what has one sender and one receiver

struct Call {  // what a rank calls a collective with; it must be the same on all
    int kind, type, op;
    uint32_t root;
    uint64_t count;
    bool operator==(const Call&) const = default;
};

struct Channel {
    std::atomic<uint64_t> written, read;  // bytes, ever
    char data[channel_bytes];
};

struct Shared {  // starts as zeros
    std::atomic<uint32_t> waiting, round;
    int32_t cards[most_ranks];  // number + 1
    Call calls[most_ranks];
};

class Communicator {
public:
    Communicator(std::string name, uint32_t ranks, uint32_t rank, void* memory);
    static size_t bytes(uint32_t ranks);
    char* slot(uint32_t rank) { return slots_ + rank * slot_bytes; }
    Channel& channel(uint32_t from, uint32_t to) { return channels_[from * ranks + to]; }
    // All ranks come here. -> 0, or the status of a task that waited too long; then cannsim_error has said so
    int meet(int seconds);
    int meet() { return meet(exec_timeout()); }
    // The same after the rank has written what it calls; fails where they differ.
    int meet_for(const Call& call);
    int timed_out(const char* what, int seconds);
    static int exec_timeout();

    const std::string name;
    const uint32_t ranks, rank;
    Shared* const shared;
    std::atomic<int> running{0};  // tasks

private:
    char* slots_;
    Channel* channels_;
};

class Deadline {
public:
    explicit Deadline(int seconds) : never_(seconds <= 0), at_(Clock::now() + std::chrono::seconds(seconds)) {}
    bool passed() const { return !never_ && Clock::now() > at_; }

private:
    using Clock = std::chrono::steady_clock;
    bool never_;
    Clock::time_point at_;
};

// ---- types.cpp

size_t size_of(HcclDataType type);
// Whether the chip's HCCL moves (or reduces) such a type. -> HCCL_SUCCESS, or an error, which cannsim_error has
// explained
HcclResult check_type(const char* name, HcclDataType type);
HcclResult check_reduction(const char* name, HcclDataType type, HcclReduceOp op);
// out[i] = the reduction of what lies at `offset` in the slots of all ranks, in their order, so that all get the same
// bits
void reduce_slots(Communicator& c, HcclDataType type, HcclReduceOp op, size_t count, size_t offset, void* out);

// ---- transfers.cpp

struct Transfer {
    bool sends;
    char* data;
    size_t left;
    uint32_t peer;
};
int run_transfers(Communicator& c, std::vector<Transfer> transfers);

// ---- collectives.cpp

// Counts the call under its name and puts it into the stream.
HcclResult submit(const char* name, HcclComm comm, aclrtStream stream, std::function<int(Communicator&)> body);

}  // namespace cannsim::hccl
