#include "json_text.hpp"

#include <charconv>

#include "error.hpp"

namespace samhq_core::json {
namespace {

std::string escape(uint32_t unit) {
    constexpr char kDigits[] = "0123456789abcdef";
    std::string text = "\\u";
    for (int shift = 12; shift >= 0; shift -= 4) text += kDigits[(unit >> shift) & 15];
    return text;
}

std::string escape_point(uint32_t point) {
    if (point < 0x10000) return escape(point);
    return escape(0xD800 + ((point - 0x10000) >> 10)) + escape(0xDC00 + ((point - 0x10000) & 0x3FF));
}

std::string letter(char c) {
    switch (c) {
        case '"': return "\\\"";
        case '\\': return "\\\\";
        case '\b': return "\\b";
        case '\f': return "\\f";
        case '\n': return "\\n";
        case '\r': return "\\r";
        case '\t': return "\\t";
        default: return static_cast<unsigned char>(c) < 0x20 ? escape(static_cast<unsigned char>(c)) : std::string(1, c);
    }
}

template <class... Format>
std::string digits(double value, Format... format) {
    char buffer[400];  // the longest is 309 digits before the point
    return {buffer, std::to_chars(buffer, buffer + sizeof buffer, value, format...).ptr};
}

}  // namespace

std::string text_of(std::string_view utf8) {
    std::string text = "\"";
    for (size_t at = 0; at < utf8.size();) {
        const auto lead = static_cast<unsigned char>(utf8[at]);
        if (lead < 0x80) {
            text += letter(utf8[at++]);
            continue;
        }
        const size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;  // well-formed: the parser's, or a path's
        uint32_t point = lead & (0x7FU >> length);
        for (size_t i = 1; i < length && at + i < utf8.size(); ++i) {
            point = (point << 6) | (static_cast<unsigned char>(utf8[at + i]) & 0x3FU);
        }
        text += escape_point(point);
        at += length;
    }
    return text + '"';
}

std::string text_of(double value) {
    const std::string scientific = digits(value, std::chars_format::scientific);
    const int exponent = std::stoi(scientific.substr(scientific.find('e') + 1));
    if (exponent < -4 || exponent >= 16) return scientific;
    const std::string fixed = digits(value, std::chars_format::fixed);
    return fixed.find('.') == std::string::npos ? fixed + ".0" : fixed;
}

std::string list_of(const std::vector<std::string>& items) { return "[" + joined(items) + "]"; }

std::string list_of(const std::vector<int64_t>& items) {
    std::vector<std::string> texts;
    for (const int64_t item : items) texts.push_back(std::to_string(item));
    return list_of(texts);
}

std::string object_of(const Members& members) {
    std::vector<std::string> texts;
    for (const auto& [name, value] : members) texts.push_back(text_of(name) + ": " + value);
    return "{" + joined(texts) + "}";
}

}  // namespace samhq_core::json
