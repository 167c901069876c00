// JSON as Python's json.dumps writes it: hashes are made of that text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace samhq_core::json {

using Members = std::vector<std::pair<std::string, std::string>>;

std::string text_of(std::string_view utf8);                // quoted; letters beyond ASCII as escapes
std::string text_of(double value);                         // the shortest that reads back the same, as Python's repr
std::string list_of(const std::vector<std::string>& items);  // of JSON
std::string list_of(const std::vector<int64_t>& items);
std::string object_of(const Members& members);             // names, and JSON

}  // namespace samhq_core::json
