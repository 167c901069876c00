#include "hq_token.hpp"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <string>

#include "half.hpp"
#include "safetensors.hpp"

namespace samhq_core {
namespace fs = std::filesystem;
namespace {

constexpr Purpose kTokenPurpose = {SAMHQ_ERROR_HQ_TOKEN, "an HQ token",
                              "expected a .npy or .safetensors file with one, such as `samhq-export train-hq` writes"};
constexpr const char* kOwnName = "hq_token";  // of any family

struct KnownName {
    const Family* family;
    const char* name;  // in official and in Hugging Face state dicts
};
constexpr KnownName kNames[] = {{&kSam, "mask_decoder.hf_token.weight"},
                                {&kSam, "mask_decoder.hq_token.weight"},
                                {&kSam2, "sam_mask_decoder.hf_token.weight"}};

[[noreturn]] void refuse(const fs::path& path, const std::string& message) {
    throw Error(SAMHQ_ERROR_HQ_TOKEN, concat(path.string(), ": ", message));
}

[[noreturn]] void cannot_be_read(const fs::path& path, const std::string& why) {
    refuse(path, concat("cannot be read (", why, ")"));
}

[[noreturn]] void of_another_family(const fs::path& path, const std::string& got, const Manifest& manifest) {
    refuse(path, concat("holds the HQ token of another family of models (", got, "), expected one trained for ",
                      manifest.sizes.family->name, " as this model"));
}

struct StoredToken {
    std::string dtype;  // as safetensors names it
    std::vector<uint8_t> bytes;
};

template <class T>
T item(const StoredToken& token, size_t index) {
    T value;
    std::memcpy(&value, token.bytes.data() + index * sizeof value, sizeof value);
    return value;
}

float value_of(const StoredToken& token, size_t index) {
    if (token.dtype == "F16") return from_half(item<uint16_t>(token, index));
    if (token.dtype == "F32") return item<float>(token, index);
    if (token.dtype == "F64") return static_cast<float>(item<double>(token, index));
    const uint32_t bits = static_cast<uint32_t>(item<uint16_t>(token, index)) << 16;  // BF16
    float value = 0;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

std::vector<float> floats_of(const fs::path& path, const StoredToken& token, const Manifest& manifest) {
    const size_t size = token.dtype == "F64" ? 8 : token.dtype == "F32" ? 4 : 2;
    if (size == 2 && token.dtype != "F16" && token.dtype != "BF16") {
        refuse(path, concat("the token is of type ", token.dtype, "; expected F64, F32, F16 or BF16"));
    }
    const size_t count = token.bytes.size() / size;
    std::vector<float> values;
    if (count == static_cast<size_t>(manifest.sizes.embed_dim)) {
        for (size_t i = 0; i < count; ++i) values.push_back(value_of(token, i));
    }
    const auto finite = [](float value) { return std::isfinite(value); };
    if (values.empty() || !std::all_of(values.begin(), values.end(), finite)) {
        refuse(path, concat("hq_token: got ", count, " numbers, expected ", manifest.sizes.embed_dim, " finite floats"));
    }
    return values;
}

// The token among the tensors of a file: by name, or the only one there is.
const StoredTensor& find_token(const fs::path& path, const SafetensorsFile& file, const Manifest& manifest) {
    const auto& tensors = file.tensors();
    std::vector<const StoredTensor*> named;
    std::string others;
    const auto note = [&](const Family* family, const char* name) {
        const auto found = tensors.find(name);
        if (found == tensors.end()) return;
        if (family == manifest.sizes.family) {
            named.push_back(&found->second);
        } else if (others.empty()) {
            others = name;
        }
    };
    note(manifest.sizes.family, kOwnName);
    for (const KnownName& known : kNames) note(known.family, known.name);
    if (named.empty() && !others.empty()) of_another_family(path, others, manifest);
    if (named.size() == 1) return *named.front();
    if (named.empty() && tensors.size() == 1) return tensors.begin()->second;
    refuse(path, concat("expected one tensor, or one named ", kOwnName, "; got ", tensors.size()));
}

void require_of(const fs::path& path, const std::map<std::string, std::string>& metadata, const Manifest& manifest) {
    const auto family = metadata.find("family"), fusion = metadata.find("token_fusion");
    if (family != metadata.end() && family->second != manifest.sizes.family->name) {
        of_another_family(path, "metadata: family " + family->second, manifest);
    }
    if (fusion != metadata.end() && fusion->second != manifest.token_fusion) {
        refuse(path, concat("was trained with token fusion ", fusion->second, ", expected ", manifest.token_fusion,
                          " as in this model; train it again, or use it with a model of its own fusion"));
    }
}

StoredToken read_safetensors(const fs::path& path, const Manifest& manifest) {
    SafetensorsFile file(path, kTokenPurpose);
    const StoredTensor& tensor = find_token(path, file, manifest);
    require_of(path, file.metadata(), manifest);
    return {tensor.dtype, file.read(tensor)};
}

// What stands behind `'key': ` in the header of a `.npy` file, to the next comma or bracket.
std::string npy_value(const std::string& header, const std::string& key) {
    const size_t at = header.find("'" + key + "':");
    if (at == std::string::npos) return "";
    const size_t begin = header.find_first_not_of(' ', at + key.size() + 3);
    return begin == std::string::npos ? "" : header.substr(begin, header.find_first_of(",}", begin) - begin);
}

// Only what a token can be: little-endian floats in C order, of any shape (numpy.lib.format).
StoredToken read_npy(const fs::path& path) {
    constexpr size_t kMost = 1 << 20, kMagic = 6, kVersion = 2;
    std::string content(kMost + 1, '\0');
    std::ifstream file(path, std::ios::binary);
    file.read(content.data(), static_cast<std::streamsize>(content.size()));
    if (!file.is_open() || file.bad()) cannot_be_read(path, std::strerror(errno));
    content.resize(static_cast<size_t>(file.gcount()));
    if (content.size() > kMost) refuse(path, "too large for an HQ token");
    const size_t length_bytes = content.size() > kMagic && content[kMagic] == 1 ? 2 : 4;
    const size_t start = kMagic + kVersion + length_bytes;
    if (content.compare(0, kMagic, "\x93NUMPY") != 0 || content.size() < start) refuse(path, "not a .npy file");
    size_t length = 0;
    for (size_t i = 0; i < length_bytes; ++i) {
        length |= static_cast<size_t>(static_cast<unsigned char>(content[kMagic + kVersion + i])) << (8 * i);
    }
    if (length > content.size() - start) refuse(path, "cannot be read as a .npy file (its header is cut off)");
    const std::string header = content.substr(start, length), descr = npy_value(header, "descr");
    const std::string dtype = descr == "'<f4'" ? "F32" : descr == "'<f8'" ? "F64" : descr == "'<f2'" ? "F16" : "";
    if (dtype.empty() || npy_value(header, "fortran_order") != "False") {
        refuse(path, concat("an array of ", descr, ", expected one of '<f4', '<f8' or '<f2' in C order"));
    }
    return {dtype, {content.begin() + static_cast<std::ptrdiff_t>(start + length), content.end()}};
}

}  // namespace

std::vector<float> read_hq_token(const fs::path& path, const Manifest& manifest) {
    if (!manifest.sizes.has_hq()) {
        throw Error(SAMHQ_ERROR_PROMPT, "hq_token: the bundle is of a plain SAM without HQ part; leave it out");
    }
    std::error_code code;
    const fs::file_status status = fs::status(path, code);
    if (status.type() == fs::file_type::none) cannot_be_read(path, code.message());
    if (!fs::is_regular_file(status)) refuse(path, "no such file; expected an HQ token as .safetensors or .npy");
    const StoredToken token = path.extension() == ".npy" ? read_npy(path) : read_safetensors(path, manifest);
    return floats_of(path, token, manifest);
}

}  // namespace samhq_core
