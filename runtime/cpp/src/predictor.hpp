// A bundle opened for running, an encoded image, and what a prediction returns.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "cancellation.hpp"
#include "geometry.hpp"
#include "manifest.hpp"
#include "pixels.hpp"
#include "prompts.hpp"
#include "session.hpp"

namespace samhq_core {

struct EncodedImage {
    Size size;
    std::vector<Tensor> features;  // the encoder's outputs
};

struct Result {
    int64_t objects = 0;
    int64_t masks_per_object = 0;
    Size size;
    int64_t low_res_size = 0;
    std::unique_ptr<uint8_t[]> masks;  // or logits
    std::unique_ptr<float[]> logits;
    std::vector<float> iou_predictions;
    std::vector<float> low_res_logits;
};

// Immutable once made, so that all threads may share it.
class Model {
  public:
    Model(const std::filesystem::path& bundle, const std::string& onnxruntime, const SessionConfig& config,
          int64_t prompts_per_call);

    const Manifest& manifest() const { return manifest_; }
    EncodedImage encode(const Pixels& pixels, const Cancellation* cancellation) const;
    Result predict(const EncodedImage& image, const samhq_prompts& prompts, const samhq_predict_options& options,
                   const Cancellation* cancellation) const;

    // An encoded image as a file, and back; see embedding.hpp.
    void save(const EncodedImage& image, const std::filesystem::path& path, bool float16) const;
    EncodedImage load(const std::filesystem::path& path) const;

  private:
    // low_res_logits (count, K, L, L) and iou_predictions (count, 4) of some of the objects.
    std::vector<Tensor> decode(const EncodedImage& image, const Prompts& prompts, int64_t first, int64_t count,
                               const std::vector<float>& weights, const float* hq_token,
                               const Cancellation* cancellation) const;
    void require_options(const samhq_predict_options& options) const;

    Manifest manifest_;
    SessionConfig config_;
    int64_t prompts_per_call_;
    const Ort& ort_;
    Session encoder_;
    Session decoder_;
};

}  // namespace samhq_core
