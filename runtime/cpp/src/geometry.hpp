// Between the original frame (the caller's image) and the model frame (longest side = image_size).
#pragma once

#include <cstdint>
#include <vector>

#include "manifest.hpp"

namespace samhq_core {

struct Size {
    int64_t height = 0;
    int64_t width = 0;
};

// 8-bit RGB pixels that belong to the caller; rows lie `row_stride` bytes apart.
struct ImageView {
    const uint8_t* rgb = nullptr;
    Size size;
    int64_t row_stride = 0;
};

// `original` scaled so that its longest side is `image_size`; halves round up.
Size fit_longest_side(Size original, int64_t image_size);

// Throw SAMHQ_ERROR_IMAGE unless there are pixels, of sizes that can be computed with.
void require_image(const ImageView& image);

// `input_image` (1, 3, S, S): resized, normalised, then zero-padded.
std::vector<float> preprocess(const ImageView& image, const Manifest& manifest);

}  // namespace samhq_core
