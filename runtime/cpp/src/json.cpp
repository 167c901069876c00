#include "json.hpp"

#include <charconv>
#include <cmath>

#include "error.hpp"

namespace samhq_core::json {
namespace {

[[noreturn]] void fail(const std::string& message) { throw Malformed(message); }

template <class T>
const T& get(const Value::Content& content, std::string_view what, const char* type) {
    const T* found = std::get_if<T>(&content);
    if (found == nullptr) fail(concat(what, " is not ", type));
    return *found;
}

// As Python's manifest has it, but for rare letters: no control characters, line separators, changes of direction.
bool is_printable(std::string_view utf8) {
    for (size_t at = 0; at < utf8.size(); ++at) {
        const auto c = static_cast<unsigned char>(utf8[at]);
        const auto next = static_cast<unsigned char>(at + 1 < utf8.size() ? utf8[at + 1] : 0);
        const auto last = static_cast<unsigned char>(at + 2 < utf8.size() ? utf8[at + 2] : 0);
        const bool control = c < 0x20 || c == 0x7F || (c == 0xC2 && next < 0xA0);
        const bool separator = c == 0xE2 && next == 0x80 && last >= 0xA8 && last <= 0xAE;
        const bool isolate = c == 0xE2 && next == 0x81 && last >= 0xA6 && last <= 0xA9;
        if (control || separator || isolate) return false;
    }
    return true;
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

class Parser {
  public:
    Parser(std::string_view text, Letters letters) : text_(text), letters_(letters) {}

    Value document() {
        Value value = any(0);
        skip_space();
        if (at_ < text_.size()) broken("text after the end");
        return value;
    }

  private:
    [[noreturn]] void broken(const char* why) const { fail(concat("no JSON at byte ", at_, ": ", why)); }

    char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

    void skip_space() {
        while (peek() == ' ' || peek() == '\t' || peek() == '\n' || peek() == '\r') ++at_;
    }

    bool accept(char c) {
        skip_space();
        if (at_ >= text_.size() || text_[at_] != c) return false;
        ++at_;
        return true;
    }

    void expect(char c, const char* why) {
        if (!accept(c)) broken(why);
    }

    Value word(std::string_view expected, Value::Content content) {
        if (text_.substr(at_, expected.size()) != expected) broken("unknown word");
        at_ += expected.size();
        return Value(std::move(content));
    }

    Value any(int depth) {
        if (depth > kMaxDepth) broken("nested too deeply");
        skip_space();
        switch (peek()) {
            case '{': return object(depth);
            case '[': return array(depth);
            case '"': return Value(string());
            case 't': return word("true", true);
            case 'f': return word("false", false);
            case 'n': return word("null", nullptr);
            default: return Value(number());
        }
    }

    Value object(int depth) {
        Object members;
        expect('{', "expected {");
        if (accept('}')) return Value(std::move(members));
        do {
            skip_space();
            std::string key = string();
            for (const auto& member : members) {
                if (member.first == key) broken("a key twice in one object");
            }
            if (members.size() == kMaxMembers) broken("too many keys in one object");
            expect(':', "expected :");
            members.emplace_back(std::move(key), any(depth + 1));
        } while (accept(','));
        expect('}', "expected , or }");
        return Value(std::move(members));
    }

    Value array(int depth) {
        Array items;
        expect('[', "expected [");
        if (accept(']')) return Value(std::move(items));
        do {
            items.push_back(any(depth + 1));
        } while (accept(','));
        expect(']', "expected , or ]");
        return Value(std::move(items));
    }

    double number() {
        const size_t begin = at_;
        if (peek() == '-') ++at_;
        const bool leading_zero = peek() == '0';
        const size_t whole = digits();
        if (whole == 0 || (leading_zero && whole > 1)) broken("expected a value");
        if (peek() == '.') {
            ++at_;
            if (digits() == 0) broken("expected digits");
        }
        if (peek() == 'e' || peek() == 'E') {
            ++at_;
            if (peek() == '+' || peek() == '-') ++at_;
            if (digits() == 0) broken("expected digits");
        }
        double value = 0;
        const auto [end, status] = std::from_chars(text_.data() + begin, text_.data() + at_, value);
        if (status != std::errc() || end != text_.data() + at_) broken("a number out of range");
        return value;
    }

    size_t digits() {
        const size_t begin = at_;
        while (is_digit(peek())) ++at_;
        return at_ - begin;
    }

    std::string string() {
        std::string out;
        if (peek() != '"') broken("expected a string");
        ++at_;
        while (peek() != '"') {
            if (static_cast<unsigned char>(peek()) < 0x20) broken("a string without end, or a control character in it");
            if (peek() == '\\') {
                escape(out);
            } else {
                utf8(out);
            }
        }
        ++at_;
        if (letters_ == Letters::printable && !is_printable(out)) broken("unprintable characters in a string");
        return out;
    }

    void escape(std::string& out) {
        ++at_;
        const char c = peek();
        ++at_;
        switch (c) {
            case '"':
            case '\\':
            case '/': out += c; return;
            case 'b': out += '\b'; return;
            case 'f': out += '\f'; return;
            case 'n': out += '\n'; return;
            case 'r': out += '\r'; return;
            case 't': out += '\t'; return;
            case 'u': append_utf8(out, code_point()); return;
            default: broken("unknown escape");
        }
    }

    uint32_t code_point() {
        const uint32_t high = hex4();
        if (high < 0xD800 || high > 0xDFFF) return high;
        if (high > 0xDBFF || text_.substr(at_, 2) != "\\u") broken("half a surrogate pair");
        at_ += 2;
        const uint32_t low = hex4();
        if (low < 0xDC00 || low > 0xDFFF) broken("half a surrogate pair");
        return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
    }

    uint32_t hex4() {
        uint32_t value = 0;
        const std::string_view digits = text_.substr(at_, 4);
        const auto [end, status] = std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
        if (digits.size() != 4 || status != std::errc() || end != digits.data() + 4) broken("expected four hex digits");
        at_ += 4;
        return value;
    }

    static void append_utf8(std::string& out, uint32_t code) {
        const auto tail = [&](int shift) { out += static_cast<char>(0x80 | ((code >> shift) & 0x3F)); };
        if (code < 0x80) {
            out += static_cast<char>(code);
        } else if (code < 0x800) {
            out += static_cast<char>(0xC0 | (code >> 6));
            tail(0);
        } else if (code < 0x10000) {
            out += static_cast<char>(0xE0 | (code >> 12));
            tail(6), tail(0);
        } else {
            out += static_cast<char>(0xF0 | (code >> 18));
            tail(12), tail(6), tail(0);
        }
    }

    // Copy one well-formed UTF-8 sequence: no overlong form, no surrogate, nothing beyond U+10FFFF.
    void utf8(std::string& out) {
        const auto lead = static_cast<unsigned char>(peek());
        const int tails = lead < 0x80 ? 0 : lead < 0xC2 ? -1 : lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : lead < 0xF5 ? 3 : -1;
        if (tails < 0 || at_ + static_cast<size_t>(tails) >= text_.size()) broken("not UTF-8");
        for (int i = 1; i <= tails; ++i) {
            const auto c = static_cast<unsigned char>(text_[at_ + static_cast<size_t>(i)]);
            const unsigned low = i > 1 ? 0x80 : lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
            const unsigned high = i > 1 ? 0xBF : lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
            if (c < low || c > high) broken("not UTF-8");
        }
        out += text_.substr(at_, static_cast<size_t>(tails) + 1);
        at_ += static_cast<size_t>(tails) + 1;
    }

    std::string_view text_;
    Letters letters_;
    size_t at_ = 0;
};

}  // namespace

const Object& Value::object(std::string_view what) const { return get<Object>(content_, what, "an object"); }
const Array& Value::array(std::string_view what) const { return get<Array>(content_, what, "a list"); }
const std::string& Value::string(std::string_view what) const { return get<std::string>(content_, what, "a string"); }
double Value::number(std::string_view what) const { return get<double>(content_, what, "a number"); }
bool Value::boolean(std::string_view what) const { return get<bool>(content_, what, "true or false"); }

int64_t Value::integer(std::string_view what) const {
    const double value = number(what);
    if (std::fabs(value) > 9007199254740992.0 || value != std::floor(value)) fail(concat(what, " is no whole number"));
    return static_cast<int64_t>(value);
}

const Value* Value::find(std::string_view key) const {
    const Object* members = std::get_if<Object>(&content_);
    if (members == nullptr) return nullptr;
    for (const auto& member : *members) {
        if (member.first == key) return &member.second;
    }
    return nullptr;
}

const Value& Value::at(std::string_view key) const {
    const Value* found = find(key);
    if (found == nullptr) fail(concat(key, " is missing"));
    return *found;
}

Value parse(std::string_view text, Letters letters) { return Parser(text, letters).document(); }

}  // namespace samhq_core::json
