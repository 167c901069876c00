// The caller's prompts, validated and turned into what the decoder is fed, by the rules of samhq_runtime/prompts.py.
#pragma once

#include <cstdint>
#include <vector>

#include "contract.hpp"
#include "error.hpp"
#include "geometry.hpp"

namespace samhq_core {

struct Prompts {
    int64_t objects = 0;              // B
    int64_t points = 0;               // N, box corners and padding included
    std::vector<float> point_coords;  // (B, N, 2) x, y in the model frame
    std::vector<float> point_labels;  // (B, N)
    std::vector<float> mask_input;    // (masks, 1, L, L); zeros if there is none
    int64_t masks = 1;                // 1 or B
    bool has_mask_input = false;
};

// Throws SAMHQ_ERROR_PROMPT: nothing given, wrong sizes or labels, NaN or infinity, or counts that differ.
Prompts encode_prompts(const samhq_prompts& given, Size original, const ModelSizes& sizes);

// Throws SAMHQ_ERROR_PROMPT unless every number of `values` is a finite float32.
void require_finite(const char* name, const float* values, int64_t count);
void require_finite(const char* name, const double* values, int64_t count);

}  // namespace samhq_core
