// COCO's compressed run-length encoding of masks, as pycocotools and samhq_runtime/masks/rle.py write it.
#pragma once

#include <cstdint>
#include <string>

#include "geometry.hpp"

namespace samhq_core {

// `counts` of a mask (H, W): the lengths of runs down the columns, the first of them background.
std::string rle_counts(const uint8_t* mask, Size size);

}  // namespace samhq_core
