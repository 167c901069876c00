#include "geometry.hpp"

#include <algorithm>

#include "resize.hpp"

namespace samhq_core {
namespace {

// (height, width, 3) of size `fitted` -> (1, 3, S, S), zero-padded.
template <class Value>
std::vector<float> normalised(const std::vector<Value>& resized, Size fitted, const Manifest& manifest) {
    const int64_t side = manifest.sizes.image_size;
    std::vector<float> input_image(static_cast<size_t>(3 * side * side));
    for (int64_t channel = 0; channel < 3; ++channel) {
        const auto mean = static_cast<float>(manifest.pixel_mean[static_cast<size_t>(channel)]);
        const auto std = static_cast<float>(manifest.pixel_std[static_cast<size_t>(channel)]);
        for (int64_t y = 0; y < fitted.height; ++y) {
            const Value* from = resized.data() + y * fitted.width * 3 + channel;
            float* to = input_image.data() + (channel * side + y) * side;
            for (int64_t x = 0; x < fitted.width; ++x) to[x] = (static_cast<float>(from[3 * x]) - mean) / std;
        }
    }
    return input_image;
}

}  // namespace

Size fit_size(Size original, const ModelSizes& sizes) {
    if (sizes.family->squashed) return {sizes.image_size, sizes.image_size};
    const double scale =
        static_cast<double>(sizes.image_size) * 1.0 / static_cast<double>(std::max(original.height, original.width));
    const auto fit = [&](int64_t side) {
        return std::max<int64_t>(static_cast<int64_t>(static_cast<double>(side) * scale + 0.5), 1);
    };
    return {fit(original.height), fit(original.width)};
}

std::vector<float> preprocess(const ImageView& image, const Manifest& manifest) {
    const Size fitted = fit_size(image.size, manifest.sizes);
    return manifest.sizes.family->squashed ? normalised(resize_floats(image, fitted), fitted, manifest)
                                           : normalised(resize_bytes(image, fitted), fitted, manifest);
}

}  // namespace samhq_core
