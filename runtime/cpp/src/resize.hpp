// Pillow's antialiased bilinear resize, equal to the bit: the models were trained on images resized by it, or like it.
#pragma once

#include <cstdint>
#include <vector>

#include "geometry.hpp"

namespace samhq_core {

// (height, width, 3) without padding between rows, as of an image of mode RGB: rounded to 8 bits.
std::vector<uint8_t> resize_bytes(const ImageView& image, Size target);

// The same as of three images of mode F: not rounded, values of 0 to 255.
std::vector<float> resize_floats(const ImageView& image, Size target);

}  // namespace samhq_core
