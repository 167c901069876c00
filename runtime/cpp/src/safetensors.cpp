#include "safetensors.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "json.hpp"

namespace samhq_core {
namespace fs = std::filesystem;
namespace {

constexpr const char* kMetadata = "__metadata__";
constexpr uint64_t kLengthBytes = 8, kMaxHeader = 1 << 20;

uint64_t item_size(const std::string& dtype) {
    constexpr std::pair<const char*, uint64_t> kSizes[] = {
        {"BOOL", 1}, {"U8", 1},  {"I8", 1},   {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"U16", 2}, {"I16", 2}, {"F16", 2},
        {"BF16", 2}, {"U32", 4}, {"I32", 4},  {"F32", 4},     {"U64", 8},     {"I64", 8}, {"F64", 8}};
    for (const auto& [name, size] : kSizes) {
        if (dtype == name) return size;
    }
    throw json::Malformed("dtype");
}

StoredTensor stored_tensor(const json::Value& content) {
    StoredTensor tensor;
    tensor.dtype = content.at("dtype").string("dtype");
    const json::Array& offsets = content.at("data_offsets").array("data_offsets");
    uint64_t bytes = item_size(tensor.dtype);
    for (const json::Value& item : content.at("shape").array("shape")) {
        const int64_t side = item.integer("shape");
        if (side < 0 || (side > 0 && bytes > (UINT64_C(1) << 53) / static_cast<uint64_t>(side))) {
            throw json::Malformed("shape");
        }
        bytes *= static_cast<uint64_t>(side);
        tensor.shape.push_back(side);
    }
    if (offsets.size() != 2) throw json::Malformed("data_offsets");
    const int64_t begin = offsets[0].integer("begin"), end = offsets[1].integer("end");
    if (begin < 0 || end < begin || static_cast<uint64_t>(end - begin) != bytes) {
        throw json::Malformed("data_offsets");
    }
    tensor.begin = static_cast<uint64_t>(begin), tensor.end = static_cast<uint64_t>(end);
    return tensor;
}

// Where the last tensor ends, if there are no gaps.
uint64_t end_of(const std::map<std::string, StoredTensor>& tensors) {
    std::vector<std::pair<uint64_t, uint64_t>> places;
    for (const auto& [name, tensor] : tensors) places.emplace_back(tensor.begin, tensor.end);
    std::sort(places.begin(), places.end());
    uint64_t end = 0;
    for (const auto& [begin, next] : places) {
        if (begin != end) throw json::Malformed("gap");
        end = next;
    }
    return end;
}

}  // namespace

SafetensorsFile::SafetensorsFile(const fs::path& path, const Purpose& purpose)
    : path_(path), purpose_(purpose), file_(path, std::ios::binary) {
    if (!file_ && errno == ENOENT) throw Error(purpose.status, concat(path.string(), ": no such file"));
    if (!file_) refuse(std::strerror(errno));
    std::error_code code;
    const uint64_t size = fs::file_size(path, code);
    if (code) refuse(code.message());
    uint8_t head[kLengthBytes] = {};
    file_.read(reinterpret_cast<char*>(head), kLengthBytes);
    if (file_.bad()) refuse(std::strerror(errno));
    uint64_t length = 0;
    for (size_t i = 0; i < kLengthBytes; ++i) length |= static_cast<uint64_t>(head[i]) << (8 * i);
    if (!file_ || length > std::min(kMaxHeader, size - kLengthBytes)) refuse("not a safetensors file");
    std::string text(static_cast<size_t>(length), '\0');
    file_.read(text.data(), static_cast<std::streamsize>(length));
    if (!file_) refuse("it cannot be read to its end");
    start_ = kLengthBytes + length;
    const uint64_t expected = start_ + read_header(text);
    if (expected != size) refuse(concat(size, " bytes, expected ", expected, ": cut off, or written over"));
}

uint64_t SafetensorsFile::read_header(const std::string& text) {
    try {
        const json::Value content = json::parse(text, json::Letters::any);
        for (const auto& [name, value] : content.object("header")) {
            if (name != kMetadata) {
                tensors_[name] = stored_tensor(value);
                continue;
            }
            for (const auto& [key, note] : value.object(kMetadata)) metadata_[key] = note.string(kMetadata);
        }
        return end_of(tensors_);
    } catch (const json::Malformed&) {
        refuse("its header is damaged");
    }
}

std::vector<uint8_t> SafetensorsFile::read(const StoredTensor& tensor) {
    std::vector<uint8_t> bytes(static_cast<size_t>(tensor.end - tensor.begin));
    file_.seekg(static_cast<std::streamoff>(start_ + tensor.begin));
    file_.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    if (!file_) refuse("it cannot be read to its end");
    return bytes;
}

void SafetensorsFile::refuse(const std::string& why) const {
    throw Error(purpose_.status,
                concat(path_.string(), ": cannot be read as ", purpose_.name, " (", why, "); ", purpose_.cure));
}

}  // namespace samhq_core
