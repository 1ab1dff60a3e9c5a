// Faults on demand: CANNSIM_FAULT is a list with commas, and each may be for one card alone with @<card>.
//
//   oom[:<n>]        aclrtMalloc has no memory left, from the n-th call on (1)
//   busy[:<card>]    aclrtSetDevice fails as for a card that another process uses
//   lost:<n>         the device is lost after n launches: from then on every call that asks it fails
//   op:<name>:<n>    the n-th launch of that operator (or collective) fails while it runs
//   hang:<name>:<n>  the n-th launch of that operator never ends
#include <map>
#include <sstream>

#include "runtime.h"

namespace cannsim {
namespace {

struct Fault {
    std::string kind, name;
    long number = 1;
    int card = -1;  // any
};

struct Plan {
    std::vector<Fault> faults;
    std::string mistake;
    std::mutex mutex;
    std::map<std::string, long> launches;
    long mallocs = 0;
};

bool to_number(const std::string& text, long* number) {
    if (text.empty() || text.find_first_not_of("0123456789") != std::string::npos) return false;
    *number = std::stol(text);
    return true;
}

// -> whether it is a fault that there is
bool read_fault(std::string text, Fault* fault) {
    long card = -1;
    if (auto at = text.find('@'); at != std::string::npos) {
        if (!to_number(text.substr(at + 1), &card)) return false;
        text.resize(at);
    }
    fault->card = int(card);
    std::vector<std::string> words;
    std::stringstream parts(text);
    for (std::string word; std::getline(parts, word, ':');) words.push_back(word);
    if (words.empty()) return false;
    fault->kind = words[0];
    if (fault->kind == "op" || fault->kind == "hang") {
        if (words.size() != 3) return false;
        fault->name = words[1];
        return to_number(words[2], &fault->number);
    }
    if (fault->kind == "lost") return words.size() == 2 && to_number(words[1], &fault->number);
    if (fault->kind != "oom" && fault->kind != "busy") return false;
    if (words.size() == 1) return true;
    if (words.size() != 2 || !to_number(words[1], fault->kind == "busy" ? &card : &fault->number)) return false;
    if (fault->kind == "busy") fault->card = int(card);
    return true;
}

Plan& plan() {
    static auto* made = [] {
        auto* p = new Plan;
        std::stringstream parts(settings().fault);
        for (std::string text; std::getline(parts, text, ',');) {
            Fault fault;
            if (read_fault(text, &fault)) {
                p->faults.push_back(fault);
            } else {
                p->mistake = "CANNSIM_FAULT: there is no fault \"" + text + "\"; see faults.cpp";
            }
        }
        return p;
    }();
    return *made;
}

bool is_for(const Fault& fault, int index) {
    return fault.card < 0 || (index >= 0 && settings().cards[size_t(index)] == fault.card);
}

void lose(int index) {
    auto& d = device(index);
    std::lock_guard<std::mutex> guard(d.mutex);
    std::string card = std::to_string(settings().cards[size_t(index)]);
    d.lost = {E_RT_LOST_HEARTBEAT, "EL0001: device " + card + " was lost: it has no heartbeat any more"};
    d.is_lost = true;
}

thread_local Launch t_launch;

}  // namespace

std::string fault_mistake() { return plan().mistake; }

void note_launch(const char* name) {
    t_launch.name = name;
    if (plan().faults.empty()) return;
    int index = current_device();
    std::lock_guard<std::mutex> guard(plan().mutex);
    long of_name = ++plan().launches[name], of_all = index < 0 ? 0 : ++device(index).launches;
    for (auto& fault : plan().faults) {
        if (!is_for(fault, index)) continue;
        if (fault.kind == "lost" && of_all == fault.number + 1) lose(index);
        if (fault.name != name || of_name != fault.number) continue;
        t_launch.hangs = fault.kind == "hang";
        if (fault.kind == "op") {
            t_launch.failure = {E_RT_AICORE_EXCEPTION, std::string("EZ9999: ") + name + " failed while it ran"};
        }
    }
}

Launch take_launch() { return std::exchange(t_launch, {}); }

bool malloc_fails() {
    if (plan().faults.empty()) return false;
    std::lock_guard<std::mutex> guard(plan().mutex);
    ++plan().mallocs;
    for (auto& fault : plan().faults) {
        if (fault.kind == "oom" && is_for(fault, current_device()) && plan().mallocs >= fault.number) return true;
    }
    return false;
}

Failure busy(int card) {
    for (auto& fault : plan().faults) {
        if (fault.kind == "busy" && (fault.card < 0 || fault.card == card)) {
            return {ACL_ERROR_RT_DEV_SETUP_ERROR,
                    "EL0005: card " + std::to_string(card) + " is busy: another process uses it"};
        }
    }
    return {};
}

}  // namespace cannsim
