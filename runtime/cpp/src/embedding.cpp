#include "embedding.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "half.hpp"
#include "json.hpp"
#include "json_text.hpp"
#include "safetensors.hpp"
#include "sha256.hpp"
#include "whole_file.hpp"

namespace samhq_core {
namespace fs = std::filesystem;
namespace {

constexpr const char* kFormat = "samhq_embedding_1";
constexpr const char* kAgain = "encode the image again";
constexpr Purpose kEmbeddingPurpose = {SAMHQ_ERROR_EMBEDDING, "an embedding", kAgain};
constexpr size_t kAlignment = 8, kShownText = 16;

using Metadata = std::vector<std::pair<std::string, std::string>>;

[[noreturn]] void fail(const fs::path& path, const std::string& message) {
    throw Error(SAMHQ_ERROR_EMBEDDING, concat(path.string(), ": ", message));
}

std::string hex_digest(const std::string& text) {
    Sha256 digest;
    digest.update(text);
    return digest.hex_digest();
}

json::Members quoted(const Metadata& metadata) {
    json::Members members;
    for (const auto& [name, text] : metadata) members.emplace_back(name, json::text_of(text));
    return members;
}

// What the metadata say of the bundle.
Metadata of_bundle(const Manifest& manifest) {
    return {{"format", kFormat},
            {"variant", manifest.variant},
            {"precision", manifest.precision},
            {"bundle_sha256", bundle_sha256(manifest)}};
}

// Indices of the features in the order of their names.
std::vector<size_t> by_name(const std::vector<FeatureSpec>& specs) {
    std::vector<size_t> order;
    for (size_t i = 0; i < specs.size(); ++i) order.push_back(i);
    std::sort(order.begin(), order.end(),
              [&](size_t a, size_t b) { return std::strcmp(specs[a].name, specs[b].name) < 0; });
    return order;
}

// Of the features, their description, and the metadata but this hash.
std::string sha256_of(const Embedding& embedding, const Metadata& metadata, const Manifest& manifest) {
    const std::vector<FeatureSpec> specs = feature_specs(manifest.sizes);
    const std::string dtype = json::text_of(embedding.half ? "<f2" : "<f4");
    Metadata sorted = metadata;
    std::sort(sorted.begin(), sorted.end());
    json::Members described;
    for (const size_t i : by_name(specs)) {
        described.emplace_back(specs[i].name, json::list_of({dtype, json::list_of(specs[i].shape())}));
    }
    const std::string text = json::list_of({json::object_of(quoted(sorted)), json::object_of(described)});
    Sha256 digest;
    digest.update(text);
    for (const size_t i : by_name(specs)) {
        digest.update(embedding.features[i].data(), embedding.features[i].size());
    }
    return digest.hex_digest();
}

template <class From, class To, class Convert>
void convert(std::vector<uint8_t>& bytes, const Convert& convert_one) {
    std::vector<uint8_t> converted(bytes.size() / sizeof(From) * sizeof(To));
    for (size_t i = 0; i < bytes.size() / sizeof(From); ++i) {
        From from;
        std::memcpy(&from, bytes.data() + i * sizeof from, sizeof from);
        const To to = convert_one(from);
        std::memcpy(converted.data() + i * sizeof to, &to, sizeof to);
    }
    bytes = std::move(converted);
}

void change_dtype(Embedding& embedding, bool half) {
    if (half == embedding.half) return;
    for (std::vector<uint8_t>& feature : embedding.features) {
        if (half) {
            convert<float, uint16_t>(feature, to_half);
        } else {
            convert<uint16_t, float>(feature, from_half);
        }
    }
    embedding.half = half;
}

bool is_finite(const Embedding& embedding) {
    for (const std::vector<uint8_t>& feature : embedding.features) {
        const size_t item = embedding.half ? sizeof(uint16_t) : sizeof(float);
        for (size_t at = 0; at < feature.size(); at += item) {
            float value = 0;
            uint16_t half = 0;
            std::memcpy(embedding.half ? static_cast<void*>(&half) : &value, feature.data() + at, item);
            if (!std::isfinite(embedding.half ? from_half(half) : value)) return false;
        }
    }
    return true;
}

std::string header_of(const Embedding& embedding, const Metadata& metadata, const Manifest& manifest) {
    const std::vector<FeatureSpec> specs = feature_specs(manifest.sizes);
    json::Members header = {{"__metadata__", json::object_of(quoted(metadata))}};
    int64_t end = 0;
    for (const size_t i : by_name(specs)) {
        const int64_t begin = end;
        end += static_cast<int64_t>(embedding.features[i].size());
        const std::string place = json::list_of(std::vector<int64_t>{begin, end});
        header.emplace_back(specs[i].name, json::object_of({{"dtype", embedding.half ? "\"F16\"" : "\"F32\""},
                                                            {"shape", json::list_of(specs[i].shape())},
                                                            {"data_offsets", place}}));
    }
    std::string text = json::object_of(header);
    text.append((kAlignment - text.size() % kAlignment) % kAlignment, ' ');
    return text;
}

// The image's size, if the file is of this bundle.
Size require_of(const std::map<std::string, std::string>& metadata, const Manifest& manifest, const fs::path& path) {
    const auto text = [&](const std::string& name) {
        const auto found = metadata.find(name);
        return found == metadata.end() ? std::string() : found->second;
    };
    if (text("format") != kFormat) {
        fail(path, concat("a safetensors file, but not an embedding of this project; ", kAgain));
    }
    for (const auto& [name, expected] : of_bundle(manifest)) {
        if (text(name) == expected) continue;
        fail(path, concat("an embedding of another bundle (", name, " ", text(name).substr(0, kShownText),
                          ", expected ", expected.substr(0, kShownText),
                          "); use the bundle that encoded it, or ", kAgain, " with this one"));
    }
    try {
        const json::Value size = json::parse(text("original_hw"));
        const json::Array& sides = size.array("original_hw");
        if (sides.size() == 2) {
            const Size found = {sides[0].integer("height"), sides[1].integer("width")};
            if (found.height > 0 && found.width > 0) return found;
        }
    } catch (const json::Malformed&) {  // no list of numbers
    }
    fail(path, concat("damaged, it does not say how large the image was; ", kAgain));
}

// Whether the tensors are float16, if they are the encoder's outputs for one image, all of one dtype.
bool require_features(const SafetensorsFile& file, const Manifest& manifest) {
    const auto& tensors = file.tensors();
    const std::string dtype = tensors.empty() ? "F32" : tensors.begin()->second.dtype;
    for (const auto& [name, tensor] : tensors) {
        if ((dtype == "F16" || dtype == "F32") && tensor.dtype == dtype) continue;
        file.refuse("its header is damaged, or of other tensors than float32 or float16");
    }
    const std::vector<FeatureSpec> specs = feature_specs(manifest.sizes);
    for (const FeatureSpec& spec : specs) {
        const auto found = tensors.find(spec.name);
        if (found != tensors.end() && found->second.shape == spec.shape() && tensors.size() == specs.size()) continue;
        file.refuse(concat("expected ", spec.name, " ", json::list_of(spec.shape()),
                           " and the other features of one image of this bundle, and nothing else"));
    }
    return dtype == "F16";
}

}  // namespace

std::string bundle_sha256(const Manifest& manifest) {
    std::map<std::string, std::string> hashes;
    for (const FileEntry& file : manifest.files) {
        if (manifest.engine_files.count(file.name) == 0) hashes[file.name] = file.sha256;
    }
    const auto numbers = [](const std::array<double, 3>& values) {
        std::vector<std::string> texts;
        for (const double value : values) texts.push_back(json::text_of(value));
        return json::list_of(texts);
    };
    const ModelSizes& sizes = manifest.sizes;
    const json::Members described = {{"embed_dim", std::to_string(sizes.embed_dim)},
                                     {"embedding_size", std::to_string(sizes.embedding_size)},
                                     {"family", json::text_of(sizes.family->name)},
                                     {"image_size", std::to_string(sizes.image_size)},
                                     {"token_masks", std::to_string(sizes.token_masks)}};
    const std::string pixels = json::list_of({numbers(manifest.pixel_mean), numbers(manifest.pixel_std)});
    return hex_digest(json::object_of({{"files", json::object_of(quoted({hashes.begin(), hashes.end()}))},
                                       {"pixels", pixels},
                                       {"sizes", json::object_of(described)}}));
}

void write_embedding(const fs::path& path, Embedding embedding, const Manifest& manifest, bool float16) {
    if (float16) change_dtype(embedding, true);
    if (!is_finite(embedding)) {
        fail(path, concat("not written, features are NaN, infinite or beyond ", embedding.half ? "float16" : "float32"));
    }
    Metadata metadata = of_bundle(manifest);
    metadata.emplace_back("original_hw", json::list_of({embedding.size.height, embedding.size.width}));
    metadata.emplace_back("sha256", sha256_of(embedding, metadata, manifest));
    const std::string header = header_of(embedding, metadata, manifest);
    WholeFile file(path, SAMHQ_ERROR_EMBEDDING);
    uint8_t length[8];
    for (size_t i = 0; i < sizeof length; ++i) length[i] = static_cast<uint8_t>(header.size() >> (8 * i));
    file.write(length, sizeof length);
    file.write(header.data(), header.size());
    for (const size_t i : by_name(feature_specs(manifest.sizes))) {
        file.write(embedding.features[i].data(), embedding.features[i].size());
    }
    file.finish();
}

Embedding read_embedding(const fs::path& path, const Manifest& manifest) {
    SafetensorsFile file(path, kEmbeddingPurpose);
    Embedding embedding;
    embedding.size = require_of(file.metadata(), manifest, path);
    embedding.half = require_features(file, manifest);
    for (const FeatureSpec& spec : feature_specs(manifest.sizes)) {
        embedding.features.push_back(file.read(file.tensors().at(spec.name)));
    }
    Metadata unsigned_metadata;
    std::string recorded;
    for (const auto& [name, text] : file.metadata()) {
        if (name == "sha256") {
            recorded = text;
        } else {
            unsigned_metadata.emplace_back(name, text);
        }
    }
    if (recorded != sha256_of(embedding, unsigned_metadata, manifest)) {
        fail(path, concat("damaged or changed; ", kAgain));
    }
    if (!is_finite(embedding)) fail(path, concat("has NaN or infinity; ", kAgain));
    change_dtype(embedding, manifest.embeddings_dtype == "float16");
    return embedding;
}

}  // namespace samhq_core
