// Tuned HQ tokens: files that turn one bundle into several models, by the rules of samhq_runtime/hq_token.py.
#pragma once

#include <filesystem>
#include <vector>

#include "manifest.hpp"

namespace samhq_core {

// The HQ token of a `.npy` or `.safetensors` file, `embed_dim` floats. Throws SAMHQ_ERROR_HQ_TOKEN: missing, unreadable,
// no token, of another size, or trained for another token fusion or family.
std::vector<float> read_hq_token(const std::filesystem::path& path, const Manifest& manifest);

}  // namespace samhq_core
