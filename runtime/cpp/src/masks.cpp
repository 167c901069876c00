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

Upscaler::Upscaler(const ModelSizes& sizes, Size original) : low_res_(sizes.low_res_size()) {
    const Size fitted = fit_longest_side(original, sizes.image_size);
    rows_ = axis(low_res_, sizes.image_size, fitted.height, original.height);
    columns_ = axis(low_res_, sizes.image_size, fitted.width, original.width);
}

std::vector<Upscaler::Sample> Upscaler::axis(int64_t low_res, int64_t image_size, int64_t crop, int64_t size) {
    std::vector<Sample> samples;
    for (int64_t position = 0; position < size; ++position) {
        const Pair outer = bilinear(position, crop, size);  // in the cropped model frame
        const Pair left = bilinear(outer.left, low_res, image_size), right = bilinear(outer.right, low_res, image_size);
        Sample sample{};
        for (int64_t i = 0; i < 3; ++i) {
            const int64_t index = left.left + i;  // the model frame is finer: never more than three neighbours
            sample.weight[i] =
                outer.left_weight * weight_of(left, index) + outer.right_weight * weight_of(right, index);
            sample.index[i] = std::min(index, low_res - 1);
        }
        samples.push_back(sample);
    }
    return samples;
}

std::vector<double> Upscaler::interpolate_columns(const float* low_res_logits) const {
    const size_t width = columns_.size();
    std::vector<double> wide(static_cast<size_t>(low_res_) * width);
    for (int64_t y = 0; y < low_res_; ++y) {
        const float* from = low_res_logits + y * low_res_;
        double* to = wide.data() + static_cast<size_t>(y) * width;
        for (size_t x = 0; x < width; ++x) {
            const Sample& s = columns_[x];
            to[x] = s.weight[0] * from[s.index[0]] + s.weight[1] * from[s.index[1]] + s.weight[2] * from[s.index[2]];
        }
    }
    return wide;
}

template <class Store>
void Upscaler::interpolate_rows(const std::vector<double>& wide, const Store& store) const {
    const size_t width = columns_.size();
    size_t at = 0;
    for (const Sample& s : rows_) {
        const double* first = wide.data() + static_cast<size_t>(s.index[0]) * width;
        const double* second = wide.data() + static_cast<size_t>(s.index[1]) * width;
        const double* third = wide.data() + static_cast<size_t>(s.index[2]) * width;
        for (size_t x = 0; x < width; ++x) {
            store(at + x, s.weight[0] * first[x] + s.weight[1] * second[x] + s.weight[2] * third[x]);
        }
        at += width;
    }
}

void Upscaler::logits(const float* low_res_logits, float* out) const {
    interpolate_rows(interpolate_columns(low_res_logits),
                     [out](size_t at, double value) { out[at] = static_cast<float>(value); });
}

void Upscaler::mask(const float* low_res_logits, double threshold, uint8_t* out) const {
    interpolate_rows(interpolate_columns(low_res_logits),
                     [out, threshold](size_t at, double value) { out[at] = value > threshold ? 1 : 0; });
}

}  // namespace samhq_core
