#include "contract.hpp"

namespace samhq_core {
namespace {

std::vector<std::string> image_features(const ModelSizes& sizes, const std::string& dtype) {
    std::vector<std::string> features;
    for (const auto& [name, channels, side] : feature_specs(sizes)) {
        features.push_back(TensorText(name, dtype).dim("images").dim(channels).dim(side).dim(side).text());
    }
    return features;
}

}  // namespace

bool operator==(const GraphSpec& a, const GraphSpec& b) {
    return a.name == b.name && a.inputs == b.inputs && a.optional_inputs == b.optional_inputs && a.outputs == b.outputs;
}

std::vector<FeatureSpec> feature_specs(const ModelSizes& sizes) {
    const int64_t grid = sizes.embedding_size, low_res = sizes.low_res_size();
    std::vector<FeatureSpec> features = {{"image_embeddings", sizes.embed_dim, grid}};
    if (sizes.family->high_res_feats) {
        features.push_back({"high_res_feats_0", sizes.embed_dim / 8, low_res});
        features.push_back({"high_res_feats_1", sizes.embed_dim / 4, 2 * grid});
    } else if (sizes.has_hq()) {
        features.push_back({"hq_features", sizes.embed_dim / 8, low_res});
    }
    return features;
}

GraphSpec image_encoder_spec(const ModelSizes& sizes, const std::string& embeddings_dtype) {
    const int64_t side = sizes.image_size;
    return {kImageEncoder,
            {TensorText("input_image", "float32").dim("images").dim(3).dim(side).dim(side).text()},
            {},
            image_features(sizes, embeddings_dtype)};
}

GraphSpec mask_decoder_spec(const ModelSizes& sizes, const std::string& embeddings_dtype) {
    const int64_t low_res = sizes.low_res_size();
    GraphSpec spec{kMaskDecoder, image_features(sizes, embeddings_dtype), {}, {}};
    for (const TensorText& input :
         {TensorText("point_coords", "float32").dim("prompts").dim("points").dim(2),
          TensorText("point_labels", "float32").dim("prompts").dim("points"),
          TensorText("mask_input", "float32").dim("mask_inputs").dim(1).dim(low_res).dim(low_res),
          TensorText("has_mask_input", "float32").dim(1), TensorText("image_index", "int64").dim("prompts"),
          TensorText("mask_weights", "float32").dim("combinations").dim(sizes.token_masks)}) {
        spec.inputs.push_back(input.text());
    }
    if (sizes.has_hq()) {
        spec.optional_inputs = {TensorText("hq_token", "float32").dim(1).dim(sizes.embed_dim).text()};
    }
    spec.outputs = {
        TensorText("low_res_logits", "float32").dim("prompts").dim("combinations").dim(low_res).dim(low_res).text(),
        TensorText("iou_predictions", "float32").dim("prompts").dim(kSamTokens).text()};
    if (sizes.family->object_scores) {
        spec.outputs.push_back(TensorText("object_score_logits", "float32").dim("prompts").dim(1).text());
    }
    return spec;
}

}  // namespace samhq_core
