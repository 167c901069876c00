#include "masks.hpp"

#include <algorithm>
#include <array>
#include <functional>
#include <iterator>

namespace samhq_core {
namespace {

// Columns: SAM's single-mask token, its three multimask tokens, the HQ token, which a plain SAM does not have.
using Row = std::array<float, kSamTokens + 1>;
constexpr Row kEvery[] = {{1, 0, 0, 0, 0}, {0, 1, 0, 0, 0}, {0, 0, 1, 0, 0}, {0, 0, 0, 1, 0}, {0, 0, 0, 0, 1}};
constexpr Row kSingle = {1, 0, 0, 0, 1}, kHqOnly = {0, 0, 0, 0, 1};
constexpr Row kMultimask[] = {{0, 1, 0, 0, 1}, {0, 0, 1, 0, 1}, {0, 0, 0, 1, 1}};
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

int64_t best_of(const float* candidates) { return std::max_element(candidates, candidates + kMultimasks) - candidates; }

double weight_of(const Pair& pair, int64_t index) {
    return (pair.left == index ? pair.left_weight : 0.0) + (pair.right == index ? pair.right_weight : 0.0);
}

}  // namespace

int64_t MaskChoice::masks() const {
    if (!multimask_output_ || (sizes_.has_hq() && !sizes_.family->every_candidate)) return 1;
    return hq_token_only_ ? 1 : kMultimasks;
}

std::vector<float> MaskChoice::weights() const {
    std::vector<Row> rows;
    if (falls_back() && !hq_token_only_) {
        rows.assign(kEvery, kEvery + sizes_.token_masks);
    } else if (falls_back()) {
        rows = {kEvery[0], kHqOnly};
    } else if (multimask_output_ && !hq_token_only_) {
        rows.assign(std::begin(kMultimask), std::end(kMultimask));
    } else {
        rows = {hq_token_only_ ? kHqOnly : kSingle};
    }
    std::vector<float> weights;
    for (const Row& row : rows) weights.insert(weights.end(), row.begin(), row.begin() + sizes_.token_masks);
    return weights;
}

std::vector<Chosen> MaskChoice::choose(const float* low_res_logits, const float* iou_predictions) const {
    if (falls_back()) return {with_fallback(low_res_logits, iou_predictions)};
    if (!multimask_output_) return {mask(low_res_logits, 0, iou_predictions[0])};
    const float* candidates = iou_predictions + kFirstMultimask;
    if (masks() == 1) {
        const int64_t best = best_of(candidates);
        return {mask(low_res_logits, hq_token_only_ ? 0 : best, candidates[best])};
    }
    std::vector<Chosen> all;
    for (int64_t i = 0; i < kMultimasks; ++i) all.push_back(mask(low_res_logits, i, candidates[i]));
    return all;
}

Chosen MaskChoice::mask(const float* low_res_logits, int64_t combination, float iou) const {
    const int64_t pixels = sizes_.low_res_size() * sizes_.low_res_size();
    const float* logits = low_res_logits + combination * pixels;
    return {{logits, logits + pixels}, iou};
}

// Every token mask by itself -> the single mask, or the best candidate where that is not stable; then HQ.
Chosen MaskChoice::with_fallback(const float* low_res_logits, const float* iou_predictions) const {
    const int64_t best = kFirstMultimask + best_of(iou_predictions + kFirstMultimask);
    const int64_t token = is_stable(low_res_logits) ? 0 : best;
    if (hq_token_only_) return mask(low_res_logits, 1, iou_predictions[token]);
    Chosen chosen = mask(low_res_logits, token, iou_predictions[token]);
    if (!sizes_.has_hq()) return chosen;
    const Chosen hq = mask(low_res_logits, kSamTokens, 0);
    std::transform(chosen.logits.begin(), chosen.logits.end(), hq.logits.begin(), chosen.logits.begin(),
                   std::plus<float>());
    return chosen;
}

bool MaskChoice::is_stable(const float* single) const {
    const float* end = single + sizes_.low_res_size() * sizes_.low_res_size();
    const float delta = sizes_.family->delta;
    const auto above = [&](float least) {
        return static_cast<float>(std::count_if(single, end, [=](float value) { return value > least; }));
    };
    const float around = above(-delta);
    return around == 0 || above(delta) / around >= sizes_.family->stability;
}

Upscaler::Upscaler(const ModelSizes& sizes, Size original) {
    const int64_t low_res = sizes.low_res_size();
    const bool squashed = sizes.family->squashed;
    const Size fitted = squashed ? Size{low_res, low_res} : fit_size(original, sizes);
    const int64_t middle = squashed ? low_res : sizes.image_size;
    rows_ = {low_res, middle, fitted.height, original.height};
    columns_ = {low_res, middle, fitted.width, original.width};
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
