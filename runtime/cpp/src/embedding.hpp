// One encoded image as a `.safetensors` file, tied to the bundle that encoded it: what samhq_runtime/embeddings writes and
// reads, the same to the byte.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "geometry.hpp"
#include "manifest.hpp"

namespace samhq_core {

// What an image leaves for its prompts, in host memory.
struct Embedding {
    Size size;                                   // of the image
    bool half = false;                           // float16, else float32
    std::vector<std::vector<uint8_t>> features;  // the encoder's outputs, in the contract's order
};

// Hash of what decides an embedding: the bundle's files but engines, and how images are prepared.
std::string bundle_sha256(const Manifest& manifest);

// Write it whole or not at all; with `float16` in half the size, rounded. Throws SAMHQ_ERROR_EMBEDDING.
void write_embedding(const std::filesystem::path& path, Embedding embedding, const Manifest& manifest, bool float16);

// What was written for the same bundle, in the dtype of its graphs. Throws SAMHQ_ERROR_EMBEDDING.
Embedding read_embedding(const std::filesystem::path& path, const Manifest& manifest);

}  // namespace samhq_core
