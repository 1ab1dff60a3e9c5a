// What the simulated chip's kernels take, as CANN's documentation has it: reads dtypes.txt and refuses everything else.
// A simulated operator would add any two numbers; the card's would not.
#include "dtypes.h"

#include <map>
#include <set>
#include <sstream>

namespace cannsim {
namespace {

using Types = std::set<std::string>;
struct Row {
    std::vector<Types>
        types;  // of each tensor argument; of one for all, if all are alike; none: the chip has no such operator
    std::string page;
};

const char* short_name(aclDataType type) {
    switch (type) {
        case ACL_FLOAT: return "f32";
        case ACL_FLOAT16: return "f16";
        case ACL_BF16: return "bf16";
        case ACL_DOUBLE: return "f64";
        case ACL_INT8: return "i8";
        case ACL_INT16: return "i16";
        case ACL_INT32: return "i32";
        case ACL_INT64: return "i64";
        case ACL_UINT8: return "u8";
        case ACL_UINT16: return "u16";
        case ACL_UINT32: return "u32";
        case ACL_UINT64: return "u64";
        case ACL_BOOL: return "bool";
        case ACL_COMPLEX64: return "c64";
        case ACL_COMPLEX128: return "c128";
        default: return "a type that is not simulated";
    }
}

std::vector<std::string> split(const std::string& text, char at) {
    std::vector<std::string> parts;
    std::stringstream stream(text);
    for (std::string part; std::getline(stream, part, at);) parts.push_back(part);
    return parts;
}

// The whole file, as one raw string: it begins and ends as such.
constexpr char table_text[] =
#include "dtypes.txt"
    ;

// A line: the operator, the types on a 910A, the types on a 910B, the page. Arguments are parted by "/", types by ",".
std::map<std::string, Row> read_table() {
    std::map<std::string, Row> table;
    std::istringstream file(table_text);
    for (std::string line; std::getline(file, line);) {
        std::istringstream words(line);
        std::string name, first, second, page;
        if (!(words >> name >> first >> second >> page) || name[0] == '#') continue;
        Row row{{}, page};
        const std::string& mine = cannsim_first_generation() ? first : second;
        if (mine != "-")
            for (const std::string& part : split(mine, '/')) {
                auto types = split(part, ',');
                row.types.emplace_back(types.begin(), types.end());
            }
        table[name] = row;
    }
    return table;
}

std::string join(const Types& types) {
    std::string text;
    for (const std::string& type : types) text += (text.empty() ? "" : ", ") + type;
    return text;
}

}  // namespace

std::string refusal(const char* name, const Arguments& arguments) {
    static const std::map<std::string, Row> table = read_table();
    auto found = table.find(name);
    if (found == table.end()) return "dtypes.txt has no line for this operator";
    const Row& row = found->second;
    const std::string chip = cannsim_soc();
    if (row.types.empty()) return "CANN has no such operator for " + chip + " (" + row.page + ")";
    for (const Seen& argument : arguments) {
        if (argument.tensor->view.defined() && argument.tensor->view.numel() == 0) continue;  // it stands for no index
        size_t which = row.types.size() == 1 ? 0 : size_t(argument.position);
        if (which >= row.types.size())
            return "dtypes.txt lacks types for argument " + std::to_string(argument.position + 1);
        std::string type = short_name(argument.tensor->type);
        if (row.types[which].count(type) || row.types[which].count("any")) continue;
        return "tensor argument " + std::to_string(argument.position + 1) + " is " + type + "; " + chip + " takes " +
               join(row.types[which]) + " (" + row.page + ")";
    }
    return "";
}

}  // namespace cannsim
