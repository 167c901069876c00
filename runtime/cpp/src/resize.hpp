// Pillow's antialiased bilinear resize of 8-bit RGB, equal to the bit: the models were trained on images resized by it.
#pragma once

#include <cstdint>
#include <vector>

#include "geometry.hpp"

namespace samhq_core {

// (height, width, 3) without padding between rows.
std::vector<uint8_t> resize_bilinear(const ImageView& image, Size target);

}  // namespace samhq_core
