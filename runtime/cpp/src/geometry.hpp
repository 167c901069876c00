// Between the original frame (the caller's image) and the model frame (a square that the image fills, or its longest side
// does).
#pragma once

#include <cstdint>
#include <vector>

#include "manifest.hpp"

namespace samhq_core {

struct Size {
    int64_t height = 0;
    int64_t width = 0;
};

// 8-bit RGB pixels that belong to somebody else; rows lie `row_stride` bytes apart.
struct ImageView {
    const uint8_t* rgb = nullptr;
    Size size;
    int64_t row_stride = 0;
};

// The image in the model frame: the whole square, or `original` scaled so that its longest side is that of the square;
// halves round up.
Size fit_size(Size original, const ModelSizes& sizes);

// `input_image` (1, 3, S, S): resized, normalised, then zero-padded.
std::vector<float> preprocess(const ImageView& image, const Manifest& manifest);

}  // namespace samhq_core
