// Communicators: how the ranks of one host find the memory that they share, and how they meet.
//
// The root's memory is an anonymous file of its process, which the others open through /proc; nothing is left behind.
#include "hccl.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>

#include "acl/acl.h"

namespace cannsim::hccl {
namespace {

int seconds_of(const char* name, int otherwise) {
    const char* value = getenv(name);
    return value && *value ? atoi(value) : otherwise;
}

size_t page_rounded(size_t bytes) { return (bytes + 4095) / 4096 * 4096; }

// Sleeps while *word is value, at most a second.
void sleep_while(std::atomic<uint32_t>& word, uint32_t value) {
    timespec second{1, 0};
    syscall(SYS_futex, &word, FUTEX_WAIT, value, &second, nullptr, 0);
}

void wake_all(std::atomic<uint32_t>& word) { syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0); }

void* map_root(const char* path, size_t bytes) {
    int file = open(path, O_RDWR | O_CLOEXEC);
    if (file < 0) return nullptr;
    void* memory =
        ftruncate(file, off_t(bytes)) ? MAP_FAILED : mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    return memory == MAP_FAILED ? nullptr : memory;
}

// Two ranks on one card is what a wrong ASCEND_DEVICE_ID or set_device makes of a job.
HcclResult check_cards(Communicator& c) {
    for (uint32_t a = 0; a < c.ranks; ++a) {
        for (uint32_t b = a + 1; b < c.ranks; ++b) {
            if (c.shared->cards[a] != c.shared->cards[b]) continue;
            std::string text = "EI0003: ranks " + std::to_string(a) + " and " + std::to_string(b) +
                               " are both on card " + std::to_string(c.shared->cards[a] - 1);
            cannsim_error(text.c_str());
            return HCCL_E_PARA;
        }
    }
    return HCCL_SUCCESS;
}

HcclResult join(uint32_t ranks, const HcclRootInfo* root, uint32_t rank, const std::string& name, HcclComm* comm) {
    int32_t card = 0;
    if (ranks == 0 || ranks > most_ranks || rank >= ranks || aclrtGetLogicDevIdByUserDevId(cannsim_device(), &card)) {
        cannsim_error("EI0003: a communicator needs a rank below its size, and a device that was set");
        return HCCL_E_PARA;
    }
    void* memory = map_root(root->internal, Communicator::bytes(ranks));
    if (!memory) {
        cannsim_error("EI0006: the root of the communicator cannot be reached: its process has ended");
        return HCCL_E_TCP_CONNECT;
    }
    auto* c = new Communicator(name.empty() ? root->internal : name, ranks, rank, memory);
    c->shared->cards[rank] = card + 1;
    if (c->meet(seconds_of("HCCL_CONNECT_TIMEOUT", 120))) {
        cannsim_error("EI0006: a rank did not connect within HCCL_CONNECT_TIMEOUT");
        return HCCL_E_TIMEOUT;
    }
    *comm = c;
    return check_cards(*c);
}

}  // namespace

Communicator::Communicator(std::string name, uint32_t ranks, uint32_t rank, void* memory)
    : name(std::move(name)), ranks(ranks), rank(rank), shared(static_cast<Shared*>(memory)) {
    slots_ = static_cast<char*>(memory) + page_rounded(sizeof(Shared));
    channels_ = reinterpret_cast<Channel*>(slots_ + ranks * slot_bytes);
}

size_t Communicator::bytes(uint32_t ranks) {
    return page_rounded(sizeof(Shared)) + ranks * slot_bytes + ranks * ranks * sizeof(Channel);
}

int Communicator::exec_timeout() {
    static const int seconds = seconds_of("HCCL_EXEC_TIMEOUT", 1836);
    return seconds;
}

// What CANN's task scheduler says where a rank waits for another one in vain: 910B and 910A have different ones.
int Communicator::timed_out(const char* what, int seconds) {
    std::string text = std::string("EI0002: ") + what + " of rank " + std::to_string(rank) + " waited " +
                       std::to_string(seconds) + " s (HCCL_EXEC_TIMEOUT) for another rank of " + name;
    cannsim_error(text.c_str());
    return cannsim_first_generation() ? ACL_ERROR_RT_TASK_TIMEOUT : ACL_ERROR_RT_FFTS_PLUS_TIMEOUT;
}

int Communicator::meet(int seconds) {
    uint32_t round = shared->round;
    if (shared->waiting.fetch_add(1) + 1 == ranks) {
        shared->waiting = 0;
        ++shared->round;
        wake_all(shared->round);
        return OK;
    }
    for (Deadline deadline(seconds); shared->round == round; sleep_while(shared->round, round)) {
        if (deadline.passed()) return timed_out("a collective", seconds);
    }
    return OK;
}

int Communicator::meet_for(const Call& call) {
    shared->calls[rank] = call;
    if (int status = meet()) return status;
    for (uint32_t other = 0; other < ranks; ++other) {
        if (shared->calls[other] == call) continue;
        std::string text = "EI0005: ranks " + std::to_string(rank) + " and " + std::to_string(other) +
                           " do not call the same collective with the same arguments";
        cannsim_error(text.c_str());
        return ACL_ERROR_RT_FFTS_PLUS_EXCEPTION;
    }
    return OK;
}

}  // namespace cannsim::hccl

using namespace cannsim::hccl;

API HcclResult HcclGetRootInfo(HcclRootInfo* root) {
    int file = memfd_create("cannsim communicator", MFD_CLOEXEC);  // stays open: others come at any time
    if (file < 0) return HCCL_E_INTERNAL;
    memset(root, 0, sizeof *root);
    snprintf(root->internal, sizeof root->internal, "/proc/%d/fd/%d", getpid(), file);
    return HCCL_SUCCESS;
}

API HcclResult HcclCommInitRootInfo(uint32_t ranks, const HcclRootInfo* root, uint32_t rank, HcclComm* comm) {
    return join(ranks, root, rank, "", comm);
}

API HcclResult HcclCommInitRootInfoConfig(uint32_t ranks, const HcclRootInfo* root, uint32_t rank,
                                          const HcclCommConfig* config, HcclComm* comm) {
    return join(ranks, root, rank, config ? config->hcclCommName : "", comm);
}

API uint32_t HcclGetCommConfigCapability() { return HCCL_COMM_CONFIG_COMM_NAME + 1; }  // no more than the name
API HcclResult HcclSetConfig(HcclConfig, HcclConfigValue) { return HCCL_SUCCESS; }

API HcclResult HcclGetCommName(HcclComm comm, char* name) {
    snprintf(name, COMM_NAME_MAX_LENGTH, "%s", static_cast<Communicator*>(comm)->name.c_str());
    return HCCL_SUCCESS;
}

// It tells of broken links alone; that a rank did not come is told by the stream.
API HcclResult HcclGetCommAsyncError(HcclComm, HcclResult* error) {
    *error = HCCL_SUCCESS;
    return HCCL_SUCCESS;
}

API HcclResult HcclGetRankSize(HcclComm comm, uint32_t* ranks) {
    *ranks = static_cast<Communicator*>(comm)->ranks;
    return HCCL_SUCCESS;
}

API HcclResult HcclGetRankId(HcclComm comm, uint32_t* rank) {
    *rank = static_cast<Communicator*>(comm)->rank;
    return HCCL_SUCCESS;
}

API HcclResult HcclCommDestroy(HcclComm comm) {
    cannsim_counts_end();
    auto* c = static_cast<Communicator*>(comm);
    if (c->running) return HCCL_SUCCESS;  // a task still waits in it for a rank that does not come
    munmap(c->shared, Communicator::bytes(c->ranks));
    delete c;
    return HCCL_SUCCESS;
}

API const char* HcclGetErrorString(HcclResult code) {
    static thread_local std::string text;
    text = "HCCL error " + std::to_string(code);
    return text.c_str();
}
