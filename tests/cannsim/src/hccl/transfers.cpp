// Transfers from one rank to another, through a ring of bytes for each pair.
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <set>
#include <utility>

#include "hccl.h"

namespace cannsim::hccl {
namespace {

// Moves what the ring has (room for). -> bytes
size_t move(Communicator& c, Transfer& t) {
    auto& channel = t.sends ? c.channel(c.rank, t.peer) : c.channel(t.peer, c.rank);
    uint64_t written = channel.written, read = channel.read;
    size_t able = t.sends ? channel_bytes - size_t(written - read) : size_t(written - read);
    size_t begin = (t.sends ? written : read) % channel_bytes;
    size_t n = std::min({t.left, able, channel_bytes - begin});
    if (t.sends) {
        memcpy(channel.data + begin, t.data, n);
        channel.written = written + n;
    } else {
        memcpy(t.data, channel.data + begin, n);
        channel.read = read + n;
    }
    t.data += n;
    t.left -= n;
    return n;
}

}  // namespace

// All at once, as any order of two ranks' sends and receives must work; one pair's go one after the other.
int run_transfers(Communicator& c, std::vector<Transfer> transfers) {
    const int seconds = Communicator::exec_timeout();
    for (Deadline deadline(seconds);;) {
        size_t moved = 0;
        bool left = false;
        std::set<std::pair<bool, uint32_t>> busy;
        for (auto& t : transfers) {
            if (!t.left || !busy.insert({t.sends, t.peer}).second) continue;
            moved += move(c, t);
            left = true;
        }
        if (!left) return OK;
        if (moved) {
            deadline = Deadline(seconds);
        } else if (deadline.passed()) {
            return c.timed_out("a transfer", seconds);
        } else {
            usleep(50);
        }
    }
}

namespace {

// Between HcclGroupStart and HcclGroupEnd sends and receives are collected, as their order must not matter.
struct Group {
    HcclComm comm;
    aclrtStream stream;
    std::vector<Transfer> transfers;
};
thread_local int t_depth = 0;
thread_local std::vector<Group> t_groups;

HcclResult launch(const char* name, HcclComm comm, aclrtStream stream, std::vector<Transfer> transfers) {
    return submit(name, comm, stream, [=](Communicator& c) { return run_transfers(c, transfers); });
}

HcclResult add(const char* name, HcclComm comm, aclrtStream stream, const std::vector<Transfer>& transfers) {
    if (!t_depth) return launch(name, comm, stream, transfers);
    auto same = [=](const Group& group) { return group.comm == comm && group.stream == stream; };
    auto found = std::find_if(t_groups.begin(), t_groups.end(), same);
    if (found == t_groups.end()) found = t_groups.insert(found, Group{comm, stream, {}});
    found->transfers.insert(found->transfers.end(), transfers.begin(), transfers.end());
    return HCCL_SUCCESS;
}

}  // namespace
}  // namespace cannsim::hccl

using namespace cannsim::hccl;

API HcclResult HcclGroupStart() {
    ++t_depth;
    return HCCL_SUCCESS;
}

API HcclResult HcclGroupEnd() {
    if (--t_depth) return HCCL_SUCCESS;
    HcclResult first = HCCL_SUCCESS;
    for (auto& group : std::exchange(t_groups, {})) {
        auto result = launch("HcclBatchSendRecv", group.comm, group.stream, group.transfers);
        if (first == HCCL_SUCCESS) first = result;
    }
    return first;
}

API HcclResult HcclSend(void* data, uint64_t count, HcclDataType type, uint32_t to, HcclComm comm, aclrtStream stream) {
    if (auto wrong = check_type("HcclSend", type)) return wrong;
    return add("HcclSend", comm, stream, {{true, static_cast<char*>(data), count * size_of(type), to}});
}

API HcclResult HcclRecv(void* data, uint64_t count, HcclDataType type, uint32_t from, HcclComm comm,
                        aclrtStream stream) {
    if (auto wrong = check_type("HcclRecv", type)) return wrong;
    return add("HcclRecv", comm, stream, {{false, static_cast<char*>(data), count * size_of(type), from}});
}

API HcclResult HcclBatchSendRecv(HcclSendRecvItem* items, uint32_t count, HcclComm comm, aclrtStream stream) {
    std::vector<Transfer> transfers;
    for (uint32_t i = 0; i < count; ++i) {
        if (auto wrong = check_type("HcclBatchSendRecv", items[i].dataType)) return wrong;
        transfers.push_back({items[i].sendRecvType == HCCL_SEND, static_cast<char*>(items[i].buf),
                             items[i].count * size_of(items[i].dataType), items[i].remoteRank});
    }
    return add("HcclBatchSendRecv", comm, stream, transfers);
}
