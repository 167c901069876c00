// manifest.json of a bundle: read, validated, and its files verified.
#pragma once

#include <array>
#include <filesystem>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "contract.hpp"

namespace samhq_core {

constexpr int64_t kSchemaVersion = 1;

struct FileEntry {
    std::string name;  // relative to the bundle, with '/'
    std::string sha256;
    int64_t bytes = 0;
};

struct GraphEntry {
    std::string file;
    GraphSpec spec;
    std::string cpu_file;  // the same graph for ONNX Runtime's CPU provider; empty if there is none

    const std::string& file_for(bool cpu_only) const { return cpu_only && !cpu_file.empty() ? cpu_file : file; }
};

struct Manifest {
    std::string variant;
    std::string precision;
    std::string token_fusion;
    ModelSizes sizes;
    std::array<double, 3> pixel_mean{};
    std::array<double, 3> pixel_std{};
    double mask_threshold = 0;
    GraphEntry image_encoder;
    GraphEntry mask_decoder;
    std::string embeddings_dtype;  // of the tensors between the graphs, "float32" or "float16"
    std::vector<FileEntry> files;
    std::set<std::string> engine_files;  // those of `files` that may be built again
};

// Parse and validate; keys that this runtime does not use are ignored.
Manifest parse_manifest(std::string_view text);

// The manifest of the bundle folder, unchanged since it was written, with every file it lists found inside the folder
// and of its size and hash.
Manifest load_manifest(const std::filesystem::path& bundle);

}  // namespace samhq_core
