// A strict JSON reader: UTF-8, bounded depth and keys, no duplicate keys, no NaN; every error names its place.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace samhq_core::json {

constexpr int kMaxDepth = 64;
constexpr size_t kMaxMembers = 4096;

// Text that is not the JSON that was expected; who reads it says of what.
class Malformed : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

class Value;
using Array = std::vector<Value>;
using Object = std::vector<std::pair<std::string, Value>>;  // few keys: searched in order

// Accessors throw Malformed that names `what` if the value is of another type.
class Value {
  public:
    using Content = std::variant<std::nullptr_t, bool, double, std::string, Array, Object>;

    Value() = default;
    explicit Value(Content content) : content_(std::move(content)) {}

    const Object& object(std::string_view what) const;
    const Array& array(std::string_view what) const;
    const std::string& string(std::string_view what) const;
    double number(std::string_view what) const;
    int64_t integer(std::string_view what) const;  // within +-2^53
    bool boolean(std::string_view what) const;
    bool is_string() const { return std::holds_alternative<std::string>(content_); }

    const Value* find(std::string_view key) const;  // nullptr if it is no object or has no such key
    const Value& at(std::string_view key) const;    // the key must be there

  private:
    Content content_ = nullptr;
};

// What strings may hold: what a terminal can show, or anything that is UTF-8.
enum class Letters { printable, any };

// Throws Malformed.
Value parse(std::string_view text, Letters letters = Letters::printable);

}  // namespace samhq_core::json
