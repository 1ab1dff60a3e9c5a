// The table of data types, dtypes.txt.
#pragma once
#include <string>

#include "op.h"

namespace cannsim {
// Why this chip does not take these arguments; empty if it does.
std::string refusal(const char* name, const Arguments& arguments);
}  // namespace cannsim
