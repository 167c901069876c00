#include "rle.hpp"

#include <vector>

namespace samhq_core {
namespace {

std::vector<int64_t> runs_of(const uint8_t* mask, Size size) {
    std::vector<int64_t> runs;
    bool inside = false;
    int64_t run = 0;
    for (int64_t x = 0; x < size.width; ++x) {
        for (int64_t y = 0; y < size.height; ++y, ++run) {
            if ((mask[y * size.width + x] != 0) == inside) continue;
            runs.push_back(run);
            inside = !inside;
            run = 0;
        }
    }
    runs.push_back(run);
    return runs;
}

// 5 bits a character, lowest first; the sixth says that more follow, the fifth carries the sign where they end.
void append_number(std::string& text, int64_t value) {
    for (bool more = true; more;) {
        int64_t digit = value & 31;
        value >>= 5;
        more = (digit & 16) != 0 ? value != -1 : value != 0;
        if (more) digit |= 32;
        text += static_cast<char>(digit + 48);
    }
}

}  // namespace

std::string rle_counts(const uint8_t* mask, Size size) {
    const std::vector<int64_t> runs = runs_of(mask, size);
    std::string text;
    for (size_t i = 0; i < runs.size(); ++i) {
        append_number(text, i > 2 ? runs[i] - runs[i - 2] : runs[i]);  // from the fourth on, what changed
    }
    return text;
}

}  // namespace samhq_core
