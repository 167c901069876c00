#include "predictor.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
#include <limits>
#include <utility>

#include "embedding.hpp"
#include "host_copy.hpp"
#include "masks.hpp"

namespace samhq_core {
namespace {

size_t checked_product(std::initializer_list<int64_t> sizes) {
    size_t product = 1;
    for (const int64_t size : sizes) {
        if (static_cast<size_t>(size) > std::numeric_limits<ptrdiff_t>::max() / sizeof(float) / product) {
            throw Error(SAMHQ_ERROR_MEMORY, "the masks of all objects do not fit into memory; predict fewer at once");
        }
        product *= static_cast<size_t>(size);
    }
    return product;
}

void require_shape(const Ort& ort, const Tensor& tensor, const std::vector<int64_t>& expected, const char* name) {
    if (ort.shape(tensor.get()) != expected) {
        throw Error(SAMHQ_ERROR_CONTRACT, concat(name, ": the graph returned another shape than it declares"));
    }
}

// Collects the masks of one object after the other.
class MaskWriter {
  public:
    MaskWriter(const ModelSizes& sizes, Size size, int64_t objects, const MaskChoice& choice,
               const samhq_predict_options& options, double mask_threshold)
        : sizes_(sizes), upscaler_(sizes, size), choice_(choice), mask_threshold_(mask_threshold) {
        result_.objects = objects;
        result_.masks_per_object = choice.masks();
        result_.size = size;
        result_.low_res_size = sizes.low_res_size();
        const size_t pixels = checked_product({objects, result_.masks_per_object, size.height, size.width});
        if (options.return_logits != 0) {
            result_.logits.reset(new float[pixels]);
        } else {
            result_.masks.reset(new uint8_t[pixels]);
        }
    }

    // `low_res_logits` (combinations, L, L) and `iou_predictions` (4,) of the next object.
    void add(const float* low_res_logits, const float* iou_predictions) {
        const float bound = sizes_.family->logits_bound;
        for (const Chosen& chosen : choice_.choose(low_res_logits, iou_predictions)) {
            if (result_.logits) {
                upscaler_.logits(chosen.logits.data(), result_.logits.get() + written_);
            } else {
                upscaler_.mask(chosen.logits.data(), mask_threshold_, result_.masks.get() + written_);
            }
            written_ += static_cast<size_t>(result_.size.height * result_.size.width);
            result_.iou_predictions.push_back(chosen.iou);
            std::transform(chosen.logits.begin(), chosen.logits.end(), std::back_inserter(result_.low_res_logits),
                           [bound](float value) { return bound > 0 ? std::clamp(value, -bound, bound) : value; });
        }
    }

    Result take() { return std::move(result_); }

  private:
    const ModelSizes& sizes_;
    Upscaler upscaler_;
    const MaskChoice& choice_;
    double mask_threshold_;
    Result result_;
    size_t written_ = 0;
};

}  // namespace

Model::Model(const std::filesystem::path& bundle, const std::string& onnxruntime, const SessionConfig& config,
             int64_t prompts_per_call)
    : manifest_(load_manifest(bundle)),
      config_(config),
      prompts_per_call_(prompts_per_call),
      ort_(Ort::load(onnxruntime)),
      encoder_(ort_, bundle / manifest_.image_encoder.file_for(config.cpu_only()), manifest_.image_encoder.spec, config),
      decoder_(ort_, bundle / manifest_.mask_decoder.file_for(config.cpu_only()), manifest_.mask_decoder.spec, config) {}

EncodedImage Model::encode(const Pixels& pixels, const Cancellation* cancellation) const {
    const RgbImage image(pixels);
    const int64_t side = manifest_.sizes.image_size;
    const std::vector<float> normalised = preprocess(image.view(), manifest_);
    const Tensor input_image = ort_.tensor(normalised.data(), {1, 3, side, side});
    return {pixels.size, encoder_.keep({{"input_image", input_image.get()}}, cancellation)};
}

void Model::save(const EncodedImage& image, const std::filesystem::path& path, bool float16) const {
    Embedding embedding;
    embedding.size = image.size;
    embedding.half = manifest_.embeddings_dtype == "float16";
    const std::vector<FeatureSpec> specs = feature_specs(manifest_.sizes);
    std::vector<const OrtValue*> features;
    for (size_t i = 0; i < specs.size(); ++i) {
        require_shape(ort_, image.features[i], specs[i].shape(), specs[i].name);
        features.push_back(image.features[i].get());
    }
    std::vector<Tensor> copies;  // of what an encoder left: all of it is on one device
    if (!on_host(ort_, features.front())) copies = copy_to_host(ort_, features, config_);
    for (size_t i = 0; i < specs.size(); ++i) {
        const auto* bytes = static_cast<const uint8_t*>(ort_.data(copies.empty() ? features[i] : copies[i].get()));
        const int64_t size = specs[i].channels * specs[i].side * specs[i].side * (embedding.half ? 2 : 4);
        embedding.features.emplace_back(bytes, bytes + size);
    }
    write_embedding(path, std::move(embedding), manifest_, float16);
}

EncodedImage Model::load(const std::filesystem::path& path) const {
    const Embedding embedding = read_embedding(path, manifest_);
    const auto dtype = embedding.half ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16 : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    const std::vector<FeatureSpec> specs = feature_specs(manifest_.sizes);
    EncodedImage image{embedding.size, {}};
    for (size_t i = 0; i < specs.size(); ++i) {
        image.features.push_back(ort_.new_tensor(specs[i].shape(), dtype));
        std::memcpy(ort_.data(image.features[i].get()), embedding.features[i].data(), embedding.features[i].size());
    }
    return image;
}

void Model::require_options(const samhq_predict_options& options) const {
    const bool has_token = options.hq_token != nullptr;
    if (!manifest_.sizes.has_hq() && (has_token || options.hq_token_only != 0)) {
        throw Error(SAMHQ_ERROR_PROMPT, concat(has_token ? "hq_token" : "hq_token_only",
                                               ": the bundle is of a plain SAM without HQ part; leave it out"));
    }
    if (options.hq_token_size != (has_token ? manifest_.sizes.embed_dim : 0)) {
        throw Error(SAMHQ_ERROR_PROMPT,
                    concat("hq_token: got ", options.hq_token_size, " floats", has_token ? "" : " and a NULL array",
                           ", expected ", manifest_.sizes.embed_dim));
    }
    if (has_token) require_finite("hq_token", options.hq_token, options.hq_token_size);
    if (options.mask_threshold != nullptr && !std::isfinite(*options.mask_threshold)) {
        throw Error(SAMHQ_ERROR_PROMPT, "mask_threshold: got NaN or infinity, expected a number");
    }
}

std::vector<Tensor> Model::decode(const EncodedImage& image, const Prompts& prompts, int64_t first, int64_t count,
                                  const std::vector<float>& weights, const float* hq_token,
                                  const Cancellation* cancellation) const {
    const ModelSizes& sizes = manifest_.sizes;
    const int64_t low_res = sizes.low_res_size(), points = prompts.points;
    const int64_t combinations = static_cast<int64_t>(weights.size()) / sizes.token_masks;
    const int64_t masks = prompts.masks == 1 ? 1 : count, first_mask = prompts.masks == 1 ? 0 : first;
    const float has_mask_input = prompts.has_mask_input ? 1 : 0;
    const std::vector<int64_t> image_index(static_cast<size_t>(count));
    const float* mask_input = prompts.mask_input.data() + first_mask * low_res * low_res;

    std::vector<std::pair<const char*, Tensor>> inputs;
    const auto feed = [&](const char* name, const auto* data, const std::vector<int64_t>& shape) {
        inputs.emplace_back(name, ort_.tensor(data, shape));
    };
    feed("point_coords", prompts.point_coords.data() + first * points * 2, {count, points, 2});
    feed("point_labels", prompts.point_labels.data() + first * points, {count, points});
    feed("mask_input", mask_input, {masks, 1, low_res, low_res});
    feed("has_mask_input", &has_mask_input, {1});
    feed("image_index", image_index.data(), {count});
    feed("mask_weights", weights.data(), {combinations, sizes.token_masks});
    if (hq_token != nullptr) feed("hq_token", hq_token, {1, sizes.embed_dim});

    std::vector<Feed> feeds;
    for (const auto& [name, tensor] : inputs) feeds.push_back({name, tensor.get()});
    for (size_t i = 0; i < image.features.size(); ++i) {
        feeds.push_back({encoder_.output(i), image.features[i].get()});
    }
    std::vector<Tensor> outputs = decoder_.run(feeds, cancellation);
    require_shape(ort_, outputs[0], {count, combinations, low_res, low_res}, "low_res_logits");
    require_shape(ort_, outputs[1], {count, kSamTokens}, "iou_predictions");
    return outputs;
}

Result Model::predict(const EncodedImage& image, const samhq_prompts& given, const samhq_predict_options& options,
                      const Cancellation* cancellation) const {
    const ModelSizes& sizes = manifest_.sizes;
    require_options(options);
    const Prompts prompts = encode_prompts(given, image.size, sizes);
    const MaskChoice choice(sizes, options.multimask_output != 0, options.hq_token_only != 0);
    const std::vector<float> weights = choice.weights();
    const int64_t combinations = static_cast<int64_t>(weights.size()) / sizes.token_masks;
    const double threshold = options.mask_threshold != nullptr ? *options.mask_threshold : manifest_.mask_threshold;
    MaskWriter writer(sizes, image.size, prompts.objects, choice, options, threshold);
    for (int64_t first = 0; first < prompts.objects; first += prompts_per_call_) {
        const int64_t count = std::min(prompts_per_call_, prompts.objects - first);
        const std::vector<Tensor> outputs =
            decode(image, prompts, first, count, weights, options.hq_token, cancellation);
        const float *logits = ort_.floats(outputs[0].get()), *iou = ort_.floats(outputs[1].get());
        for (int64_t object = 0; object < count; ++object) {
            if (cancellation != nullptr) cancellation->check();
            writer.add(logits, iou);
            logits += combinations * sizes.low_res_size() * sizes.low_res_size();
            iou += kSamTokens;
        }
    }
    return writer.take();
}

}  // namespace samhq_core
