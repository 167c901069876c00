#include "resize.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace samhq_core {
namespace {

constexpr int kFractionBits = 32 - 8 - 2;  // of a weight: 8 bits for the pixel, 2 to spare
constexpr int32_t kHalf = 1 << (kFractionBits - 1);

// For each target pixel of one axis: the source pixels it is the weighted mean of, in fixed point.
struct Window {
    int64_t first;
    std::vector<int32_t> weights;
};

Window window(int64_t position, int64_t source, int64_t target) {
    const double scale = static_cast<double>(source) / static_cast<double>(target);
    const double support = std::max(scale, 1.0);  // half the width of the triangle: shrinking widens it
    const double centre = (static_cast<double>(position) + 0.5) * scale;
    const double inverse = 1.0 / support;
    const auto first = std::max<int64_t>(static_cast<int64_t>(centre - support + 0.5), 0);
    const auto last = std::min(static_cast<int64_t>(centre + support + 0.5), source);
    std::vector<double> exact;
    double sum = 0;
    for (int64_t i = first; i < last; ++i) {
        const double distance = std::fabs((static_cast<double>(i) - centre + 0.5) * inverse);
        exact.push_back(distance < 1.0 ? 1.0 - distance : 0.0);
        sum += exact.back();
    }
    Window result{first, {}};
    for (const double weight : exact) {
        const double normalised = sum != 0.0 ? weight / sum : weight;
        result.weights.push_back(static_cast<int32_t>(0.5 + normalised * (1 << kFractionBits)));
    }
    return result;
}

std::vector<Window> windows(int64_t source, int64_t target) {
    std::vector<Window> all;
    for (int64_t position = 0; position < target; ++position) all.push_back(window(position, source, target));
    return all;
}

uint8_t to_byte(int32_t sum) { return static_cast<uint8_t>(std::clamp(sum >> kFractionBits, 0, 255)); }

void resize_row(const uint8_t* from, const std::vector<Window>& columns, uint8_t* to) {
    for (const Window& column : columns) {
        int32_t red = kHalf, green = kHalf, blue = kHalf;
        const uint8_t* pixel = from + 3 * column.first;
        for (const int32_t weight : column.weights) {
            red += pixel[0] * weight, green += pixel[1] * weight, blue += pixel[2] * weight;
            pixel += 3;
        }
        *to++ = to_byte(red), *to++ = to_byte(green), *to++ = to_byte(blue);
    }
}

std::vector<uint8_t> resize_width(const ImageView& image, int64_t width) {
    const auto row_bytes = static_cast<size_t>(3 * width);
    const std::vector<Window> columns = windows(image.size.width, width);
    std::vector<uint8_t> resized(static_cast<size_t>(image.size.height) * row_bytes);
    for (int64_t y = 0; y < image.size.height; ++y) {
        const uint8_t* from = image.rgb + y * image.row_stride;
        uint8_t* to = resized.data() + static_cast<size_t>(y) * row_bytes;
        if (image.size.width == width) {
            std::memcpy(to, from, row_bytes);
        } else {
            resize_row(from, columns, to);
        }
    }
    return resized;
}

std::vector<uint8_t> resize_height(const ImageView& image, int64_t height) {
    const auto row_bytes = static_cast<size_t>(3 * image.size.width);
    std::vector<uint8_t> resized(static_cast<size_t>(height) * row_bytes);
    std::vector<int32_t> sums(row_bytes);
    uint8_t* to = resized.data();
    for (const Window& row : windows(image.size.height, height)) {
        std::fill(sums.begin(), sums.end(), kHalf);
        const uint8_t* from = image.rgb + row.first * image.row_stride;
        for (const int32_t weight : row.weights) {
            for (size_t i = 0; i < row_bytes; ++i) sums[i] += from[i] * weight;
            from += image.row_stride;
        }
        for (size_t i = 0; i < row_bytes; ++i) *to++ = to_byte(sums[i]);
    }
    return resized;
}

// Since version 13 Pillow starts with the axis that loses far more pixels if that is the height.
bool height_first(Size source, Size target) {
    return source.width != target.width && source.height > target.height &&
           source.height - target.height > 2 * (source.width - target.width);
}

}  // namespace

std::vector<uint8_t> resize_bilinear(const ImageView& image, Size target) {
    if (height_first(image.size, target)) {
        const std::vector<uint8_t> low = resize_height(image, target.height);
        return resize_width({low.data(), {target.height, image.size.width}, 3 * image.size.width}, target.width);
    }
    std::vector<uint8_t> narrow = resize_width(image, target.width);
    if (image.size.height == target.height) return narrow;
    return resize_height({narrow.data(), {image.size.height, target.width}, 3 * target.width}, target.height);
}

}  // namespace samhq_core
