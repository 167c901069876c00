// What the two graphs take and return: the C++ side of samhq_runtime/contract.py.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace samhq_core {

constexpr int64_t kSamTokens = 4;  // SAM's mask tokens: one for a single mask, three for multimask output

// What models differ in for those who run their graphs: `Family` of samhq_runtime/contract.py.
struct Family {
    const char* name;
    bool squashed;         // images fill the square of the model; otherwise their longer side does
    bool high_res_feats;   // the encoder leaves features of high resolution
    bool object_scores;    // the decoder says how likely there is an object
    bool pads_boxes;       // a padding point follows boxes too, and not only points
    bool every_candidate;  // multimask output is all three masks of a model with an HQ token too
    // The best candidate takes the place of the single mask where the area of its logits above `delta` over that above
    // -`delta` is less than `stability`; 0: never.
    float stability, delta;
    float logits_bound;  // what the low-resolution logits that callers get are clamped to; 0: they are not
};

inline constexpr Family kSam = {"sam", false, false, false, false, false, 0, 0, 0};
inline constexpr Family kSam2 = {"sam2", true, true, true, true, true, 0.98F, 0.05F, 32};

struct ModelSizes {
    int64_t image_size = 0;
    int64_t embedding_size = 0;
    int64_t embed_dim = 0;
    int64_t token_masks = kSamTokens + 1;  // columns of mask_weights: the HQ token is the last one, if there is one
    const Family* family = &kSam;

    bool has_hq() const { return token_masks > kSamTokens; }
    int64_t low_res_size() const { return 4 * embedding_size; }  // side of low_res_logits, mask_input, hq_features
};

// A tensor is described as one string, "name dtype (dim, 'dynamic dim', ...)", so that a contract is compared as text.
class TensorText {
  public:
    TensorText(const std::string& name, const std::string& dtype) : text_(name + " " + dtype + " (") {}
    TensorText& dim(int64_t size) { return add(std::to_string(size)); }
    TensorText& dim(const std::string& name) { return add("'" + name + "'"); }
    std::string text() const { return text_ + ")"; }

  private:
    TensorText& add(const std::string& dim) {
        text_ += (text_.back() == '(' ? "" : ", ") + dim;
        return *this;
    }
    std::string text_;
};

struct GraphSpec {
    std::string name;
    std::vector<std::string> inputs;           // required
    std::vector<std::string> optional_inputs;  // with a default in the graph
    std::vector<std::string> outputs;
};

bool operator==(const GraphSpec& a, const GraphSpec& b);

// One of the tensors that the encoder leaves for the decoder: (images, channels, side, side).
struct FeatureSpec {
    const char* name;
    int64_t channels, side;

    std::vector<int64_t> shape() const { return {1, channels, side, side}; }  // of one image
};

std::vector<FeatureSpec> feature_specs(const ModelSizes& sizes);  // in the order of the encoder's outputs

constexpr const char* kImageEncoder = "image_encoder";
constexpr const char* kMaskDecoder = "mask_decoder";

// `embeddings_dtype`, "float32" or "float16", is that of the tensors between the two graphs.
GraphSpec image_encoder_spec(const ModelSizes& sizes, const std::string& embeddings_dtype);
GraphSpec mask_decoder_spec(const ModelSizes& sizes, const std::string& embeddings_dtype);

}  // namespace samhq_core
