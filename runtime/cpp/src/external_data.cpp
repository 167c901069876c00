#include "external_data.hpp"

#include <cstdint>
#include <fstream>

#include "error.hpp"

namespace samhq_core {
namespace {

enum class Kind { other, model, training, function, graph, node, attribute, sparse, tensor, entry };

// onnx.proto: which fields lead on to a tensor's `external_data`; the table of samhq_runtime/bundle/external_data.py.
Kind inner(Kind kind, uint64_t field) {
    switch (kind) {
        case Kind::model:
            return field == 7 ? Kind::graph : field == 20 ? Kind::training : field == 25 ? Kind::function : Kind::other;
        case Kind::training:
            return field == 1 || field == 2 ? Kind::graph : Kind::other;
        case Kind::function:
            return field == 7 ? Kind::node : field == 11 ? Kind::attribute : Kind::other;
        case Kind::graph:
            return field == 1 ? Kind::node : field == 5 ? Kind::tensor : field == 15 ? Kind::sparse : Kind::other;
        case Kind::node:
            return field == 5 ? Kind::attribute : Kind::other;
        case Kind::attribute:
            if (field == 5 || field == 10) return Kind::tensor;
            if (field == 6 || field == 11) return Kind::graph;
            return field == 22 || field == 23 ? Kind::sparse : Kind::other;
        case Kind::sparse:
            return field == 1 || field == 2 ? Kind::tensor : Kind::other;
        case Kind::tensor:
            return field == 13 ? Kind::entry : Kind::other;
        default:
            return Kind::other;
    }
}

constexpr uint64_t kKey = 1, kValue = 2, kOpType = 4;            // of an entry, of a node
constexpr uint64_t kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5;
constexpr int kTagBits = 32, kNumberBits = 64, kMostDepth = 64;
constexpr uint64_t kMostText = 4096, kNear = 4096;               // bytes of a name; of what is read rather than sought

class Reader {
  public:
    explicit Reader(const std::filesystem::path& path)
        : name_(path.filename().string()), file_(path, std::ios::binary), size_(std::filesystem::file_size(path)) {}

    std::set<std::string> locations() {
        if (size_ == 0) refuse("an empty file");
        message(Kind::model, size_, 0);
        return std::move(found_);
    }

  private:
    [[noreturn]] void refuse(const char* why) const {
        throw Error(SAMHQ_ERROR_BUNDLE_INVALID,
                    concat(name_, ": refused, not a graph of this project (", why, "); export the bundle again"));
    }

    void message(Kind kind, uint64_t end, int depth) {
        if (depth > kMostDepth) refuse("graphs inside graphs without end");
        std::string key, value;
        while (at_ < end) {
            const uint64_t tag = varint(end, kTagBits), field = tag >> 3, wire = tag & 7;
            if (field == 0) refuse("field number 0");
            if (wire == kVarint) {
                varint(end, kNumberBits);
                continue;
            }
            if (wire != kBytes && wire != kFixed64 && wire != kFixed32) refuse("an unknown wire type");
            const uint64_t size = wire == kBytes ? varint(end, kTagBits) : wire == kFixed64 ? 8 : 4;
            if (size > end - at_) refuse("a field is cut off");
            const Kind next = wire == kBytes ? inner(kind, field) : Kind::other;
            if (next != Kind::other) {
                message(next, at_ + size, depth + 1);
            } else if (wire == kBytes && kind == Kind::entry && (field == kKey || field == kValue)) {
                (field == kKey ? key : value) = text(size);
            } else if (wire == kBytes && kind == Kind::node && field == kOpType && size < kMostText) {
                if (text(size) == "EPContext") refuse("a node of type EPContext");
            } else {
                skip(size);
            }
        }
        if (kind == Kind::entry && key == "location") found_.insert(value);
    }

    // A number of at most so many bits, written as shortly as can be: parsers disagree on others.
    uint64_t varint(uint64_t end, int bits) {
        uint64_t value = 0;
        for (int shift = 0; shift < bits; shift += 7) {
            if (at_ >= end) refuse("a number is cut off");
            const auto byte = static_cast<uint64_t>(file_.get());
            if (!file_) refuse("it cannot be read");
            ++at_;
            const uint64_t digit = byte & 0x7F;
            const bool too_large = bits - shift < 7 && digit >> (bits - shift) != 0;
            value |= digit << shift;
            if (byte < 0x80) {
                if (too_large || (shift > 0 && byte == 0)) refuse("a number out of range, or longer than it need be");
                return value;
            }
        }
        refuse("a number without end");
    }

    std::string text(uint64_t size) {
        if (size > kMostText) refuse("a name without end");
        std::string content(static_cast<size_t>(size), '\0');
        file_.read(content.data(), static_cast<std::streamsize>(size));
        if (!file_) refuse("it cannot be read");
        at_ += size;
        return content;
    }

    void skip(uint64_t size) {
        at_ += size;
        if (size < kNear) {
            file_.ignore(static_cast<std::streamsize>(size));
        } else {
            file_.seekg(static_cast<std::streamoff>(at_));
        }
    }

    std::string name_;
    std::ifstream file_;
    uint64_t size_, at_ = 0;
    std::set<std::string> found_;
};

}  // namespace

std::set<std::string> external_files(const std::filesystem::path& graph) { return Reader(graph).locations(); }

}  // namespace samhq_core
