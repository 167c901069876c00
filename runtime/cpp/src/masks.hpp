// Which token masks to compute, which to keep, and how logits become masks of the original size.
#pragma once

#include <cstdint>
#include <vector>

#include "contract.hpp"
#include "geometry.hpp"

namespace samhq_core {

// Rows of `mask_weights` (K, token_masks): which combinations of token masks the decoder is to compute.
std::vector<float> mask_weights(bool multimask_output, bool hq_token_only, int64_t token_masks);

// Index, among K computed masks and among the 4 predicted IoUs, of each mask that the caller gets for one object.
struct Choice {
    int64_t combination;
    int64_t iou;
};
// One Choice per mask of masks_per_object.
std::vector<Choice> choose(const float* iou_predictions, int64_t combinations, bool multimask_output,
                           int64_t token_masks);
int64_t masks_per_object(bool multimask_output, int64_t token_masks);

// Low-resolution logits -> the original size, as Sam.postprocess_masks: up to the model frame, padding cropped, to H x
// W. Both bilinear steps are linear and separable, so each axis is one sum of at most three weighted samples. In
// float64, so that no order of adding changes a mask; in blocks of columns, so that wide images take no more memory.
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
