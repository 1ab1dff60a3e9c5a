// What was launched, copied and waited for: CANNSIM_COUNTS=<prefix> writes <prefix>.<pid>.json at the end of the
// process.
#include <unistd.h>

#include <array>
#include <cstdio>
#include <map>

#include "runtime.h"

namespace cannsim {
namespace {

constexpr std::array copy_names = {"h2h", "h2d", "d2h", "d2d"};
constexpr std::array sync_names = {"stream", "device", "event", "copy"};

struct Counts {
    std::mutex mutex;
    std::map<std::string, long> launches;
    std::array<long, 4> copies{}, bytes{}, syncs{};
};
Counts& counts() {
    static auto* all = new Counts;
    return *all;
}

std::string launches_json() {
    std::string text;
    for (auto& [name, count] : counts().launches) {
        text += (text.empty() ? "\"" : ", \"") + name + "\": " + std::to_string(count);
    }
    return text;
}

std::string copies_json() {
    std::string text;
    for (size_t i = 0; i < copy_names.size(); ++i) {
        text += std::string(i ? ", \"" : "\"") + copy_names[i] +
                "\": {\"count\": " + std::to_string(counts().copies[i]) +
                ", \"bytes\": " + std::to_string(counts().bytes[i]) + "}";
    }
    return text;
}

std::string syncs_json() {
    std::string text;
    for (size_t i = 0; i < sync_names.size(); ++i) {
        text += std::string(i ? ", \"" : "\"") + sync_names[i] + "\": " + std::to_string(counts().syncs[i]);
    }
    return text;
}

std::string memory_json() {
    size_t peak = 0, used = 0;
    for (size_t i = 0; i < settings().cards.size(); ++i) {
        std::lock_guard<std::mutex> guard(device(int(i)).mutex);
        peak += device(int(i)).peak;
        used += device(int(i)).used;
    }
    return "\"peak_bytes\": " + std::to_string(peak) + ", \"bytes\": " + std::to_string(used);
}

__attribute__((destructor)) void write_at_end() { write_counts(); }

}  // namespace

void write_counts() {
    if (settings().counts.empty() || !owns_devices()) return;
    std::string path = settings().counts + "." + std::to_string(getpid()) + ".json";
    if (int wrong = cannsim_counts_write(path.c_str())) fprintf(stderr, "cannsim: %s: error %d\n", path.c_str(), wrong);
}

void count_launch(const char* name) {
    std::lock_guard<std::mutex> guard(counts().mutex);
    ++counts().launches[name];
}

void count_copy(Copy direction, size_t bytes) {
    std::lock_guard<std::mutex> guard(counts().mutex);
    ++counts().copies[size_t(direction)];
    counts().bytes[size_t(direction)] += long(bytes);
}

void count_sync(Sync kind) {
    std::lock_guard<std::mutex> guard(counts().mutex);
    ++counts().syncs[size_t(kind)];
}

}  // namespace cannsim

using namespace cannsim;

API void cannsim_counts_end() { write_counts(); }

API void cannsim_count_launch(const char* name) {
    count_launch(name);
    note_launch(name);
}

// For a program that counts parts of itself, through ctypes.
API void cannsim_counts_reset() {
    std::lock_guard<std::mutex> guard(counts().mutex);
    counts().launches.clear();
    counts().copies = counts().bytes = counts().syncs = {};
    for (size_t i = 0; i < settings().cards.size(); ++i) {
        std::lock_guard<std::mutex> of_device(device(int(i)).mutex);
        device(int(i)).peak = device(int(i)).used;
    }
}

// -> 0, or errno's kind of number
API int cannsim_counts_write(const char* path) {
    std::lock_guard<std::mutex> guard(counts().mutex);
    FILE* file = fopen(path, "w");
    if (!file) return errno;
    fprintf(file,
            "{\n \"pid\": %d,\n \"launches\": {%s},\n \"copies\": {%s},\n \"synchronisations\": {%s},\n \"memory\": "
            "{%s}\n}\n",
            getpid(), launches_json().c_str(), copies_json().c_str(), syncs_json().c_str(), memory_json().c_str());
    return fclose(file) ? errno : 0;
}
