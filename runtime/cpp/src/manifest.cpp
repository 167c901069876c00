#include "manifest.hpp"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <memory>

#include "error.hpp"
#include "external_data.hpp"
#include "json.hpp"
#include "sha256.hpp"

namespace samhq_core {
namespace fs = std::filesystem;
namespace {

constexpr const char* kManifestName = "manifest.json";
constexpr uintmax_t kMaxManifestBytes = 4 << 20;
constexpr std::string_view kSeal = ",\n  \"manifest_sha256\": \"";  // the last key, and the hash of all before it
constexpr std::string_view kSealEnd = "\"\n}\n";
constexpr int64_t kMaxSide = 1 << 16;
constexpr const char* kNoFusion = "none";  // of a plain SAM

[[noreturn]] void invalid(const std::string& message) {
    throw Error(SAMHQ_ERROR_BUNDLE_INVALID, concat(kManifestName, ": ", message, "; export the bundle again"));
}

int64_t side(const json::Value& sizes, const char* name) {
    const int64_t value = sizes.at(name).integer(name);
    if (value < 1 || value > kMaxSide) invalid(concat(name, " is ", value));
    return value;
}

double finite(const json::Value& value, const char* name) {
    const double number = value.number(name);
    if (std::fabs(number) > std::numeric_limits<float>::max()) invalid(concat(name, " is not finite in float32"));
    return number;
}

// Manifests name any family but SAM's.
const Family& family_of(const json::Value& sizes) {
    const json::Value* value = sizes.find("family");
    if (value == nullptr) return kSam;
    const std::string name = value->string("family");
    for (const Family* family : {&kSam, &kSam2}) {
        if (name == family->name) return *family;
    }
    throw Error(SAMHQ_ERROR_CONTRACT, concat(kManifestName, ": a model of family ", name, ", this library runs ",
                                             kSam.name, " and ", kSam2.name, "; use a newer one"));
}

ModelSizes model_sizes(const json::Value& content, const std::string& token_fusion) {
    ModelSizes sizes;
    sizes.family = &family_of(content);
    sizes.image_size = side(content, "image_size");
    sizes.embedding_size = side(content, "embedding_size");
    sizes.embed_dim = side(content, "embed_dim");
    if (const json::Value* token_masks = content.find("token_masks")) {
        sizes.token_masks = token_masks->integer("token_masks");
    }
    const bool known = sizes.token_masks == kSamTokens || sizes.token_masks == kSamTokens + 1;
    if (!known || (token_fusion == kNoFusion) == sizes.has_hq()) {
        invalid(concat("token fusion ", token_fusion, " with ", sizes.token_masks, " token masks"));
    }
    if (sizes.low_res_size() > sizes.image_size) invalid("embedding_size does not fit image_size");
    return sizes;
}

std::array<double, 3> triple(const json::Value& content, const char* name) {
    const json::Array& values = content.array(name);
    if (values.size() != 3) invalid(concat(name, " has ", values.size(), " values, expected 3"));
    return {finite(values[0], name), finite(values[1], name), finite(values[2], name)};
}

std::string tensor(const json::Value& item) {
    TensorText text(item.at("name").string("name"), item.at("dtype").string("dtype"));
    for (const json::Value& dim : item.at("shape").array("shape")) {
        if (dim.is_string()) {
            text.dim(dim.string("shape"));
        } else {
            text.dim(dim.integer("shape"));
        }
    }
    return text.text();
}

GraphEntry graph(const json::Value& graphs, const char* name) {
    const json::Value& content = graphs.at(name);
    const json::Value* cpu_file = content.find("cpu_file");
    GraphEntry entry{content.at("file").string("file"), {name, {}, {}, {}}, cpu_file ? cpu_file->string("cpu_file") : ""};
    for (const json::Value& item : content.at("inputs").array("inputs")) {
        auto& inputs = item.at("optional").boolean("optional") ? entry.spec.optional_inputs : entry.spec.inputs;
        inputs.push_back(tensor(item));
    }
    for (const json::Value& item : content.at("outputs").array("outputs")) entry.spec.outputs.push_back(tensor(item));
    return entry;
}

// The graphs must be those this runtime feeds and reads, and agree on the dtype of what passes between them, which is
// noted.
void require_contract(Manifest& manifest) {
    for (const char* dtype : {"float32", "float16"}) {
        if (manifest.image_encoder.spec == image_encoder_spec(manifest.sizes, dtype) &&
            manifest.mask_decoder.spec == mask_decoder_spec(manifest.sizes, dtype)) {
            manifest.embeddings_dtype = dtype;
            return;
        }
    }
    throw Error(SAMHQ_ERROR_CONTRACT,
                concat(kManifestName, ": its graphs are not the ones this runtime knows; export the bundle again"));
}

void require_schema(const json::Value& content) {
    const int64_t schema = content.at("schema_version").integer("schema_version");
    if (schema != kSchemaVersion) {
        throw Error(SAMHQ_ERROR_BUNDLE_SCHEMA,
                    concat(kManifestName, ": schema ", schema, ", this runtime reads schema ", kSchemaVersion,
                           "; use the samhq that belongs to the exporter, or export the bundle again"));
    }
}

void require_seal(const std::string& text) {
    const size_t size = std::min(text.rfind(kSeal), text.size());
    Sha256 digest;
    digest.update(std::string_view(text).substr(0, size));
    if (text.compare(size, std::string::npos, concat(kSeal, digest.hex_digest(), kSealEnd)) != 0) {
        throw Error(SAMHQ_ERROR_BUNDLE_DAMAGED,
                    concat(kManifestName, ": damaged or changed (its text is not the one manifest_sha256 was made of); "
                                          "copy the bundle again or export it again"));
    }
}

FileEntry file_entry(const std::string& name, const json::Value& content) {
    FileEntry entry{name, content.at("sha256").string("sha256"), content.at("bytes").integer("bytes")};
    if (name.empty() || name.find('\0') != std::string::npos) invalid("a file without a proper name");
    return entry;
}

[[noreturn]] void unreadable(const fs::path& path, const std::string& why) {
    throw Error(SAMHQ_ERROR_BUNDLE_UNREADABLE,
                concat(path.string(), ": cannot be read (", why, "); look at its permissions, and at the disk"));
}

// With the C library's own files, which say why they cannot be read.
template <class Take>
void read_pieces(const fs::path& path, const Take& take) {
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), std::fclose);
    if (!file) unreadable(path, std::strerror(errno));
    std::vector<char> piece(1 << 20);
    while (const size_t size = std::fread(piece.data(), 1, piece.size(), file.get())) take({piece.data(), size});
    if (std::ferror(file.get()) != 0) unreadable(path, std::strerror(errno));
}

std::string read_text(const fs::path& path) {
    std::error_code code;
    const uintmax_t bytes = fs::file_size(path, code);
    if (code) unreadable(path, code.message());
    if (bytes > kMaxManifestBytes) invalid(concat(bytes, " bytes are too many for a manifest"));
    std::string text;
    read_pieces(path, [&](std::string_view piece) { text += piece; });
    return text;
}

// `bundle / name`, refused if the name leads out of the bundle, through `..`, an absolute path or a folder that is a link.
// The file itself may be a link to elsewhere, as in caches: what is loaded is what was hashed.
fs::path inside(const fs::path& bundle, const std::string& name) {
    const fs::path relative(name);
    std::error_code code;
    const fs::path root = fs::canonical(bundle, code);
    const fs::path target = code ? root : fs::weakly_canonical((bundle / relative).parent_path(), code);
    if (code) invalid(concat("'", name, "' cannot be looked for (", code.message(), ")"));
    const bool safe = !relative.is_absolute() && std::find(relative.begin(), relative.end(), "..") == relative.end() &&
                      std::mismatch(root.begin(), root.end(), target.begin(), target.end()).first == root.end();
    if (!safe) {
        throw Error(SAMHQ_ERROR_BUNDLE_UNSAFE,
                    concat(kManifestName, ": refused, '", name, "' lies outside the bundle"));
    }
    return bundle / relative;
}

std::string sha256_of(const fs::path& path) {
    Sha256 digest;
    read_pieces(path, [&](std::string_view piece) { digest.update(piece); });
    return digest.hex_digest();
}

void verify(const fs::path& bundle, const FileEntry& entry) {
    const fs::path path = inside(bundle, entry.name);
    std::error_code code;
    if (!fs::is_regular_file(path, code)) {
        throw Error(SAMHQ_ERROR_BUNDLE_MISSING,
                    concat(bundle.string(), ": ", entry.name, " is missing; copy the bundle again or export it again"));
    }
    const uintmax_t bytes = fs::file_size(path, code);
    if (code) unreadable(path, code.message());
    if (entry.bytes < 0 || bytes != static_cast<uintmax_t>(entry.bytes) || sha256_of(path) != entry.sha256) {
        throw Error(SAMHQ_ERROR_BUNDLE_DAMAGED,
                    concat(path.string(), ": damaged or changed (its SHA-256 is not the manifest's); copy it again"));
    }
}

bool is_listed(const Manifest& manifest, const fs::path& file) {
    return std::any_of(manifest.files.begin(), manifest.files.end(),
                       [&](const FileEntry& entry) { return fs::path(entry.name) == file; });
}

void require_listed(const Manifest& manifest, const GraphEntry& graph) {
    for (const std::string& file : {graph.file, graph.cpu_file}) {
        if (!file.empty() && !is_listed(manifest, file)) {
            invalid(concat("graph file '", file, "' is not in its list of hashed files"));
        }
    }
}

// Every file that a graph takes weights from lies beside it and was hashed.
void require_listed_weights(const fs::path& bundle, const Manifest& manifest, const GraphEntry& graph) {
    for (const std::string& file : {graph.file, graph.cpu_file}) {
        if (file.empty()) continue;
        for (const std::string& weights : external_files(bundle / file)) {
            const bool beside = weights.find_first_of("/\\") == std::string::npos;
            if (!beside || !is_listed(manifest, fs::path(file).parent_path() / weights)) {
                throw Error(SAMHQ_ERROR_BUNDLE_UNSAFE, concat(file, ": refused, it takes weights from '", weights,
                                                              "', which is not a hashed file of this bundle"));
            }
        }
    }
}

Manifest manifest_of(const json::Value& content) {
    require_schema(content);
    Manifest manifest;
    manifest.variant = content.at("variant").string("variant");
    manifest.precision = content.at("precision").string("precision");
    manifest.token_fusion = content.at("token_fusion").string("token_fusion");
    manifest.sizes = model_sizes(content.at("sizes"), manifest.token_fusion);
    manifest.pixel_mean = triple(content.at("pixel_mean"), "pixel_mean");
    manifest.pixel_std = triple(content.at("pixel_std"), "pixel_std");
    manifest.mask_threshold = content.at("mask_threshold").number("mask_threshold");
    for (const double std : manifest.pixel_std) {
        if (static_cast<float>(std) == 0.0F) invalid("pixel_std is 0");
    }
    const json::Value& graphs = content.at("graphs");
    manifest.image_encoder = graph(graphs, kImageEncoder);
    manifest.mask_decoder = graph(graphs, kMaskDecoder);
    for (const auto& [name, entry] : content.at("files").object("files")) {
        manifest.files.push_back(file_entry(name, entry));
    }
    if (const json::Value* engines = content.find("engines")) {
        for (const auto& [name, engine] : engines->object("engines")) {
            manifest.engine_files.insert(engine.at("file").string("file"));
        }
    }
    require_listed(manifest, manifest.image_encoder);
    require_listed(manifest, manifest.mask_decoder);
    require_contract(manifest);
    return manifest;
}

}  // namespace

Manifest parse_manifest(std::string_view text) {
    try {
        return manifest_of(json::parse(text));
    } catch (const json::Malformed& error) {
        invalid(error.what());
    }
}

Manifest load_manifest(const fs::path& bundle) {
    std::error_code code;
    if (!fs::is_directory(bundle, code)) {
        throw Error(SAMHQ_ERROR_BUNDLE_MISSING,
                    concat(bundle.string(), ": no such folder; expected a bundle written by samhq-export"));
    }
    if (!fs::is_regular_file(bundle / kManifestName, code)) {
        throw Error(SAMHQ_ERROR_BUNDLE_MISSING,
                    concat(bundle.string(), ": not a bundle, ", kManifestName, " is missing"));
    }
    const std::string text = read_text(bundle / kManifestName);
    Manifest manifest = parse_manifest(text);
    require_seal(text);
    for (const FileEntry& entry : manifest.files) verify(bundle, entry);
    require_listed_weights(bundle, manifest, manifest.image_encoder);
    require_listed_weights(bundle, manifest, manifest.mask_decoder);
    return manifest;
}

}  // namespace samhq_core
