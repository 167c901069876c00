// The caller's pixels, in whatever order of colours, as the RGB that the rest of the library reads.
#pragma once

#include <cstdint>
#include <vector>

#include "geometry.hpp"

namespace samhq_core {

struct Pixels {
    const uint8_t* data = nullptr;
    Size size;
    int64_t row_stride = 0;  // bytes from row to row; 0: they lie one behind the other
    int32_t format = 0;      // a samhq_pixel_format
};

class RgbImage {
  public:
    // Throws SAMHQ_ERROR_IMAGE: no pixels, sizes that cannot be computed with, a stride shorter than a row, or an
    // unknown format. RGB is looked at where it is.
    explicit RgbImage(const Pixels& pixels);
    const ImageView& view() const { return view_; }

  private:
    std::vector<uint8_t> converted_;
    ImageView view_;
};

}  // namespace samhq_core
