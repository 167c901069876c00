#include "pixels.hpp"

#include <samhq/samhq.h>

#include "error.hpp"

namespace samhq_core {
namespace {

constexpr int64_t kMaxImageSide = 1 << 24;

struct Layout {
    samhq_pixel_format format;
    const char* name;
    int64_t bytes;  // of a pixel
    int red, green, blue;
};
constexpr Layout kLayouts[] = {{SAMHQ_PIXELS_RGB, "RGB", 3, 0, 1, 2},
                               {SAMHQ_PIXELS_BGR, "BGR", 3, 2, 1, 0},
                               {SAMHQ_PIXELS_RGBA, "RGBA", 4, 0, 1, 2},
                               {SAMHQ_PIXELS_BGRA, "BGRA", 4, 2, 1, 0}};

const Layout& layout_of(int32_t format) {
    for (const Layout& layout : kLayouts) {
        if (format == layout.format) return layout;
    }
    throw Error(SAMHQ_ERROR_IMAGE, concat("pixel_format: got ", format, ", expected a samhq_pixel_format"));
}

std::vector<uint8_t> to_rgb(const Pixels& pixels, const Layout& layout) {
    std::vector<uint8_t> rgb(static_cast<size_t>(3 * pixels.size.height * pixels.size.width));
    uint8_t* to = rgb.data();
    for (int64_t y = 0; y < pixels.size.height; ++y) {
        const uint8_t* from = pixels.data + y * pixels.row_stride;
        for (int64_t x = 0; x < pixels.size.width; ++x, from += layout.bytes) {
            *to++ = from[layout.red], *to++ = from[layout.green], *to++ = from[layout.blue];
        }
    }
    return rgb;
}

}  // namespace

RgbImage::RgbImage(const Pixels& given) {
    const Layout& layout = layout_of(given.format);
    const auto [height, width] = given.size;
    if (height < 1 || width < 1 || height > kMaxImageSide || width > kMaxImageSide) {
        throw Error(SAMHQ_ERROR_IMAGE,
                    concat("image: got ", height, " x ", width, " pixels, expected 1 to ", kMaxImageSide, " a side"));
    }
    Pixels pixels = given;
    if (pixels.row_stride == 0) pixels.row_stride = layout.bytes * width;
    if (pixels.row_stride < layout.bytes * width) {
        throw Error(SAMHQ_ERROR_IMAGE, concat("image: rows of ", width, " ", layout.name, " pixels take ",
                                              layout.bytes * width, " bytes, got a stride of ", pixels.row_stride));
    }
    if (layout.format == SAMHQ_PIXELS_RGB) {
        view_ = {pixels.data, pixels.size, pixels.row_stride};
    } else {
        converted_ = to_rgb(pixels, layout);
        view_ = {converted_.data(), pixels.size, 3 * width};
    }
}

}  // namespace samhq_core
