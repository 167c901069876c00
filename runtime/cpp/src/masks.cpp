#include "masks.hpp"

#include <algorithm>

namespace samhq_core {
namespace {

// Columns: SAM's single-mask token, its three multimask tokens, the HQ token, which a plain SAM does not have.
using Rows = std::vector<std::vector<float>>;
const Rows& rows_of(bool multimask_output, bool hq_token_only) {
    static const Rows single = {{1, 0, 0, 0, 1}};
    static const Rows hq_only = {{0, 0, 0, 0, 1}};
    static const Rows multimask = {{0, 1, 0, 0, 1}, {0, 0, 1, 0, 1}, {0, 0, 0, 1, 1}};
    return hq_token_only ? hq_only : multimask_output ? multimask : single;
}
constexpr int64_t kFirstMultimask = 1, kMultimasks = 3;
constexpr int64_t kColumns = 2048;  // of a block: 4 MB for 256 rows of logits

// What F.interpolate(mode="bilinear", align_corners=False) takes for one position of an axis: two neighbours.
struct Pair {
    int64_t left, right;
    double left_weight, right_weight;
};

Pair bilinear(int64_t position, int64_t source, int64_t target) {
    const double ratio = static_cast<double>(source) / static_cast<double>(target);
    const double centre = std::max((static_cast<double>(position) + 0.5) * ratio - 0.5, 0.0);
    const int64_t left = std::min(static_cast<int64_t>(centre), source - 1);
    const double fraction = centre - static_cast<double>(left);
    return {left, std::min(left + 1, source - 1), 1 - fraction, fraction};
}

double weight_of(const Pair& pair, int64_t index) {
    return (pair.left == index ? pair.left_weight : 0.0) + (pair.right == index ? pair.right_weight : 0.0);
}

}  // namespace

std::vector<float> mask_weights(bool multimask_output, bool hq_token_only, int64_t token_masks) {
    std::vector<float> weights;
    for (const auto& row : rows_of(multimask_output, hq_token_only)) {
        weights.insert(weights.end(), row.begin(), row.begin() + token_masks);
    }
    return weights;
}

int64_t masks_per_object(bool multimask_output, int64_t token_masks) {
    return multimask_output && token_masks == kSamTokens ? kMultimasks : 1;  // SAM returns every candidate
}

std::vector<Choice> choose(const float* iou_predictions, int64_t combinations, bool multimask_output,
                           int64_t token_masks) {
    if (!multimask_output) return {{0, 0}};
    if (token_masks == kSamTokens) return {{0, 1}, {1, 2}, {2, 3}};
    const float* candidates = iou_predictions + kFirstMultimask;
    const int64_t best = std::max_element(candidates, candidates + kMultimasks) - candidates;
    return {{combinations == 1 ? 0 : best, kFirstMultimask + best}};
}

Upscaler::Upscaler(const ModelSizes& sizes, Size original) {
    const Size fitted = fit_longest_side(original, sizes.image_size);
    rows_ = {sizes.low_res_size(), sizes.image_size, fitted.height, original.height};
    columns_ = {sizes.low_res_size(), sizes.image_size, fitted.width, original.width};
}

Upscaler::Sample Upscaler::Axis::at(int64_t position) const {
    const Pair outer = bilinear(position, crop, size);  // in the cropped model frame
    const Pair left = bilinear(outer.left, low_res, image_size), right = bilinear(outer.right, low_res, image_size);
    Sample sample{};
    for (int64_t i = 0; i < 3; ++i) {
        const int64_t index = left.left + i;  // the model frame is finer: never more than three neighbours
        sample.weight[i] = outer.left_weight * weight_of(left, index) + outer.right_weight * weight_of(right, index);
        sample.index[i] = std::min(index, low_res - 1);
    }
    return sample;
}

std::vector<double> Upscaler::interpolate_columns(const float* low_res_logits, int64_t start, int64_t width) const {
    std::vector<double> wide(static_cast<size_t>(columns_.low_res * width));
    for (int64_t x = 0; x < width; ++x) {
        const Sample s = columns_.at(start + x);
        const float* from = low_res_logits;
        for (int64_t y = 0; y < columns_.low_res; ++y, from += columns_.low_res) {
            wide[static_cast<size_t>(y * width + x)] =
                s.weight[0] * from[s.index[0]] + s.weight[1] * from[s.index[1]] + s.weight[2] * from[s.index[2]];
        }
    }
    return wide;
}

template <class Store>
void Upscaler::interpolate(const float* low_res_logits, const Store& store) const {
    for (int64_t start = 0; start < columns_.size; start += kColumns) {
        const int64_t width = std::min(kColumns, columns_.size - start);
        const std::vector<double> wide = interpolate_columns(low_res_logits, start, width);
        for (int64_t y = 0; y < rows_.size; ++y) {
            const Sample s = rows_.at(y);
            const double* first = wide.data() + s.index[0] * width;
            const double* second = wide.data() + s.index[1] * width;
            const double* third = wide.data() + s.index[2] * width;
            const auto at = static_cast<size_t>(y * columns_.size + start);
            for (int64_t x = 0; x < width; ++x) {
                store(at + static_cast<size_t>(x),
                      s.weight[0] * first[x] + s.weight[1] * second[x] + s.weight[2] * third[x]);
            }
        }
    }
}

void Upscaler::logits(const float* low_res_logits, float* out) const {
    interpolate(low_res_logits, [out](size_t at, double value) { out[at] = static_cast<float>(value); });
}

void Upscaler::mask(const float* low_res_logits, double threshold, uint8_t* out) const {
    interpolate(low_res_logits, [out, threshold](size_t at, double value) { out[at] = value > threshold ? 1 : 0; });
}

}  // namespace samhq_core
