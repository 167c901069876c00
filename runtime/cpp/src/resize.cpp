#include "resize.hpp"

#include <algorithm>
#include <cmath>

namespace samhq_core {
namespace {

// How Pillow sums up pixels of 8 bits: with weights in fixed point.
struct Bytes {
    using Value = uint8_t;
    using Sum = int32_t;
    static constexpr int kFractionBits = 32 - 8 - 2;  // of a weight: 8 bits for the pixel, 2 to spare
    static constexpr Sum kStart = 1 << (kFractionBits - 1);
    static Sum weight(double exact) { return static_cast<Sum>(0.5 + exact * (1 << kFractionBits)); }
    static Value value(Sum sum) { return static_cast<Value>(std::clamp(sum >> kFractionBits, 0, 255)); }
};

// And how it sums up floats.
struct Floats {
    using Value = float;
    using Sum = double;
    static constexpr Sum kStart = 0;
    static Sum weight(double exact) { return exact; }
    static Value value(Sum sum) { return static_cast<Value>(sum); }
};

// Three values a pixel; rows lie `row_stride` values apart.
template <class Value>
struct Raster {
    const Value* data;
    Size size;
    int64_t row_stride;
};

// For each target pixel of one axis: the source pixels it is the weighted mean of.
template <class Kind>
struct Window {
    int64_t first;
    std::vector<typename Kind::Sum> weights;
};

template <class Kind>
Window<Kind> window(int64_t position, int64_t source, int64_t target) {
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
    Window<Kind> result{first, {}};
    for (const double weight : exact) result.weights.push_back(Kind::weight(sum != 0.0 ? weight / sum : weight));
    return result;
}

template <class Kind>
std::vector<Window<Kind>> windows(int64_t source, int64_t target) {
    std::vector<Window<Kind>> all;
    for (int64_t position = 0; position < target; ++position) all.push_back(window<Kind>(position, source, target));
    return all;
}

template <class Kind>
void resize_row(const typename Kind::Value* from, const std::vector<Window<Kind>>& columns, typename Kind::Value* to) {
    for (const Window<Kind>& column : columns) {
        auto red = Kind::kStart, green = Kind::kStart, blue = Kind::kStart;
        const auto* pixel = from + 3 * column.first;
        for (const auto weight : column.weights) {
            red += pixel[0] * weight, green += pixel[1] * weight, blue += pixel[2] * weight;
            pixel += 3;
        }
        *to++ = Kind::value(red), *to++ = Kind::value(green), *to++ = Kind::value(blue);
    }
}

template <class Kind>
std::vector<typename Kind::Value> resize_width(const Raster<typename Kind::Value>& image, int64_t width) {
    const int64_t row = 3 * width;
    const std::vector<Window<Kind>> columns = windows<Kind>(image.size.width, width);
    std::vector<typename Kind::Value> resized(static_cast<size_t>(image.size.height * row));
    for (int64_t y = 0; y < image.size.height; ++y) {
        const auto* from = image.data + y * image.row_stride;
        auto* to = resized.data() + y * row;
        if (image.size.width == width) {
            std::copy(from, from + row, to);
        } else {
            resize_row<Kind>(from, columns, to);
        }
    }
    return resized;
}

template <class Kind>
std::vector<typename Kind::Value> resize_height(const Raster<typename Kind::Value>& image, int64_t height) {
    const auto row_values = static_cast<size_t>(3 * image.size.width);
    std::vector<typename Kind::Value> resized(static_cast<size_t>(height) * row_values);
    std::vector<typename Kind::Sum> sums(row_values);
    auto* to = resized.data();
    for (const Window<Kind>& row : windows<Kind>(image.size.height, height)) {
        std::fill(sums.begin(), sums.end(), Kind::kStart);
        const auto* from = image.data + row.first * image.row_stride;
        for (const auto weight : row.weights) {
            for (size_t i = 0; i < row_values; ++i) sums[i] += from[i] * weight;
            from += image.row_stride;
        }
        for (size_t i = 0; i < row_values; ++i) *to++ = Kind::value(sums[i]);
    }
    return resized;
}

// Since version 13 Pillow starts with the axis that loses far more pixels if that is the height.
bool height_first(Size source, Size target) {
    return source.width != target.width && source.height > target.height &&
           source.height - target.height > 2 * (source.width - target.width);
}

template <class Kind>
std::vector<typename Kind::Value> resize(const Raster<typename Kind::Value>& image, Size target) {
    const auto raster = [](const auto& pixels, Size size) {
        return Raster<typename Kind::Value>{pixels.data(), size, 3 * size.width};
    };
    if (height_first(image.size, target)) {
        const auto low = resize_height<Kind>(image, target.height);
        return resize_width<Kind>(raster(low, {target.height, image.size.width}), target.width);
    }
    auto narrow = resize_width<Kind>(image, target.width);
    if (image.size.height == target.height) return narrow;
    return resize_height<Kind>(raster(narrow, {image.size.height, target.width}), target.height);
}

}  // namespace

std::vector<uint8_t> resize_bytes(const ImageView& image, Size target) {
    return resize<Bytes>({image.rgb, image.size, image.row_stride}, target);
}

std::vector<float> resize_floats(const ImageView& image, Size target) {
    const int64_t row = 3 * image.size.width;
    std::vector<float> floats(static_cast<size_t>(image.size.height * row));
    for (int64_t y = 0; y < image.size.height; ++y) {
        const uint8_t* from = image.rgb + y * image.row_stride;
        std::copy(from, from + row, floats.begin() + y * row);
    }
    return resize<Floats>({floats.data(), image.size, row}, target);
}

}  // namespace samhq_core
