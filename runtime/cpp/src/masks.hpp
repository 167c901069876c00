// Which token masks to compute, which to keep, and how logits become masks of the original size.
#pragma once

#include <cstdint>
#include <vector>

#include "contract.hpp"
#include "geometry.hpp"

namespace samhq_core {

// One mask of an object.
struct Chosen {
    std::vector<float> logits;  // (L, L)
    float iou;
};

// What a caller wants of the masks of a model: MaskChoice of samhq_runtime/masks/choice.py.
class MaskChoice {
  public:
    MaskChoice(const ModelSizes& sizes, bool multimask_output, bool hq_token_only)
        : sizes_(sizes), multimask_output_(multimask_output), hq_token_only_(hq_token_only) {}

    int64_t masks() const;               // how many an object gets
    std::vector<float> weights() const;  // rows of `mask_weights` (K, token_masks), what the decoder is to compute

    // The masks of one object, of its `low_res_logits` (K, L, L) and `iou_predictions` (4,).
    std::vector<Chosen> choose(const float* low_res_logits, const float* iou_predictions) const;

  private:
    bool falls_back() const { return sizes_.family->stability > 0 && !multimask_output_; }
    bool is_stable(const float* single) const;
    Chosen mask(const float* low_res_logits, int64_t combination, float iou) const;
    Chosen with_fallback(const float* low_res_logits, const float* iou_predictions) const;

    const ModelSizes& sizes_;
    bool multimask_output_, hq_token_only_;
};

// Low-resolution logits -> the original size, as Sam.postprocess_masks: up to the model frame, padding cropped, to H x
// W; where images are squashed in one step, and the first one changes nothing. Both bilinear steps are linear and
// separable, so each axis is one sum of at most three weighted samples. In float64, so that no order of adding changes
// a mask; in blocks of columns, so that wide images take no more memory.
class Upscaler {
  public:
    Upscaler(const ModelSizes& sizes, Size original);

    void logits(const float* low_res_logits, float* out) const;                    // (L, L) -> (H, W)
    void mask(const float* low_res_logits, double threshold, uint8_t* out) const;  // 1 where above `threshold`

  private:
    struct Sample {
        int64_t index[3];
        double weight[3];
    };
    struct Axis {
        int64_t low_res, image_size, crop, size;
        Sample at(int64_t position) const;
    };
    // (L, width): the columns from `start` on, of all rows.
    std::vector<double> interpolate_columns(const float* low_res_logits, int64_t start, int64_t width) const;
    template <class Store>
    void interpolate(const float* low_res_logits, const Store& store) const;

    Axis rows_, columns_;
};

}  // namespace samhq_core
