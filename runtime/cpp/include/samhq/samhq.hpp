// samhq for C++17: the C interface with handles that close themselves and errors as exceptions. Header only.
//
//     samhq::Bundle bundle("bundle");
//     samhq::Image image = bundle.encode({rgb, height, width});
//     samhq::Result result = image.predict(samhq::Prompts().box(120, 60, 410, 380));
//     const std::uint8_t* mask = result.mask(0);
//
// Handles are moved, not copied; an Image outlives its Bundle, a Result both. Threads: as samhq.h says.
#ifndef SAMHQ_SAMHQ_HPP
#define SAMHQ_SAMHQ_HPP

#include <samhq/samhq.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace samhq {

// What a call of the library failed with.
class Error : public std::runtime_error {
  public:
    explicit Error(const samhq_error& error) : std::runtime_error(error.message), status_(error.status) {}
    Error(samhq_status status, const char* message) : std::runtime_error(message), status_(status) {}
    samhq_status status() const noexcept { return status_; }

  private:
    samhq_status status_;
};

namespace detail {

struct Close {
    void operator()(samhq_bundle* handle) const noexcept { samhq_bundle_close(handle); }
    void operator()(samhq_image* handle) const noexcept { samhq_image_close(handle); }
    void operator()(samhq_result* handle) const noexcept { samhq_result_close(handle); }
    void operator()(samhq_cancellation* handle) const noexcept { samhq_cancellation_close(handle); }
};

template <class Handle>
using Owned = std::unique_ptr<Handle, Close>;

inline void check(samhq_status status, const samhq_error& error) {
    if (status != SAMHQ_OK) throw Error(error);
}

}  // namespace detail

// 8-bit pixels (height, width, 3 or 4), only looked at; rows lie `row_stride` bytes apart (0: one behind the other).
struct Pixels {
    const std::uint8_t* rgb = nullptr;  // or in the order of another `format`
    std::int64_t height = 0;
    std::int64_t width = 0;
    std::int64_t row_stride = 0;
    samhq_pixel_format format = SAMHQ_PIXELS_RGB;
};

// A request to stop, for calls that are given it; it outlives them. Any thread may make it.
class Cancellation {
  public:
    Cancellation() {
        samhq_cancellation* cancellation = nullptr;
        samhq_error error;
        detail::check(samhq_cancellation_create(&cancellation, &error), error);
        handle_.reset(cancellation);
    }
    void request() noexcept { samhq_cancellation_request(handle_.get()); }
    static const samhq_cancellation* handle_of(const Cancellation* one) noexcept {
        return one == nullptr ? nullptr : one->handle_.get();
    }

  private:
    detail::Owned<samhq_cancellation> handle_;
};

struct Options {
    std::string providers = "cpu";  // in order of preference, e.g. "tensorrt,cuda,cpu"; each must be available
    std::int32_t threads = 0;       // CPU threads inside one operator; 0: one per physical core
    std::int32_t device_id = 0;
    std::int32_t prompts_per_call = 0;  // more objects than these are decoded in groups; 0: 8
    std::string onnxruntime;  // path of the ONNX Runtime library; empty: as samhq_bundle_options says for NULL
    std::vector<std::string> provider_options;  // each "PROVIDER.OPTION=VALUE"
};

// Prompts for one object (`point`, `box`), or for several at once: fill the arrays and counts as samhq_prompts says.
struct Prompts {
    std::vector<double> point_coords;
    std::vector<std::int32_t> point_labels;
    std::int64_t point_sets = 1;    // of equally many points, one after the other
    std::vector<double> boxes;      // (boxes, 4)
    std::vector<float> mask_input;  // (masks, L, L)
    std::int64_t mask_side = 0;     // L

    Prompts& point(double x, double y, bool on_object = true) {
        point_coords.insert(point_coords.end(), {x, y});
        point_labels.push_back(on_object ? 1 : 0);
        return *this;
    }

    // Each call adds an object.
    Prompts& box(double x0, double y0, double x1, double y1) {
        boxes.insert(boxes.end(), {x0, y0, x1, y1});
        return *this;
    }

    // The prompts as the C interface takes them, valid while this object is not changed.
    samhq_prompts view() const {
        const auto size = [](const auto& array) { return static_cast<std::int64_t>(array.size()); };
        const auto divided = [](std::int64_t total, std::int64_t by, const char* wrong) {
            if (by < 1 || total % by != 0) throw Error(SAMHQ_ERROR_PROMPT, wrong);
            return total / by;
        };
        samhq_prompts prompts = SAMHQ_PROMPTS_INIT;
        if (!point_coords.empty() || !point_labels.empty()) {
            prompts.point_coords = point_coords.data();
            prompts.point_labels = point_labels.data();
            prompts.point_sets = point_sets;
            prompts.points = divided(size(point_labels), point_sets, "point_labels: not as many in every set");
            if (size(point_coords) != 2 * size(point_labels)) {
                throw Error(SAMHQ_ERROR_PROMPT, "point_coords: expected x and y for every label");
            }
        }
        prompts.boxes = boxes.data();
        prompts.box_count = divided(size(boxes), 4, "boxes: expected four numbers for each");
        if (!mask_input.empty()) {
            prompts.mask_input = mask_input.data();
            prompts.mask_side = mask_side;
            const std::int64_t side = mask_side > 0 && mask_side < (1 << 20) ? mask_side : 0;
            prompts.mask_count =
                divided(size(mask_input), side * side, "mask_input: expected mask_side^2 numbers for each");
        }
        return prompts;
    }
};

struct PredictOptions {
    bool multimask_output = false;
    bool hq_token_only = false;
    bool return_logits = false;
    std::vector<float> hq_token;  // replaces the bundle's in this call; empty: the bundle's
    std::optional<double> mask_threshold;        // logits above it are inside a mask; none: the bundle's
    const Cancellation* cancellation = nullptr;  // stops the call
};

// Masks of B objects, M of them each: 1, or 3 for multimask_output of a plain SAM or a SAM 2. Arrays belong to the
// result.
class Result {
  public:
    explicit Result(samhq_result* handle) : handle_(handle) {
        samhq_error error;
        detail::check(samhq_result_get_view(handle_.get(), &view_, &error), error);
    }

    std::int64_t objects() const noexcept { return view_.objects; }
    std::int64_t masks_per_object() const noexcept { return view_.masks_per_object; }
    std::int64_t height() const noexcept { return view_.height; }
    std::int64_t width() const noexcept { return view_.width; }
    std::int64_t low_res_size() const noexcept { return view_.low_res_size; }

    // (H, W), 1 inside and 0 outside; nullptr if logits were asked for.
    const std::uint8_t* mask(std::int64_t object, std::int64_t index = 0) const {
        const std::int64_t at = position(object, index);
        return view_.masks == nullptr ? nullptr : view_.masks + at * view_.height * view_.width;
    }
    // (H, W); nullptr if masks were asked for.
    const float* logits(std::int64_t object, std::int64_t index = 0) const {
        const std::int64_t at = position(object, index);
        return view_.logits == nullptr ? nullptr : view_.logits + at * view_.height * view_.width;
    }
    float iou_prediction(std::int64_t object, std::int64_t index = 0) const {
        return view_.iou_predictions[position(object, index)];
    }
    // COCO's compressed run-length encoding, the "counts" of pycocotools; masks were asked for, not logits.
    std::string rle(std::int64_t object, std::int64_t index = 0) const {
        const char* counts = nullptr;
        samhq_error error;
        detail::check(samhq_result_get_rle(handle_.get(), object, index, &counts, &error), error);
        return counts;
    }
    // (L, L), to go on from in the mask_input of another prediction.
    const float* low_res_logits(std::int64_t object, std::int64_t index = 0) const {
        return view_.low_res_logits + position(object, index) * view_.low_res_size * view_.low_res_size;
    }

  private:
    std::int64_t position(std::int64_t object, std::int64_t index) const {
        if (object < 0 || object >= view_.objects || index < 0 || index >= view_.masks_per_object) {
            throw std::out_of_range("samhq::Result: no such object or mask");
        }
        return object * view_.masks_per_object + index;
    }

    detail::Owned<samhq_result> handle_;
    samhq_result_view view_ = SAMHQ_RESULT_VIEW_INIT;
};

class Image {
  public:
    explicit Image(samhq_image* handle) : handle_(handle) {}

    Result predict(const Prompts& prompts, const PredictOptions& options = {}) const {
        const samhq_prompts view = prompts.view();
        samhq_predict_options given = SAMHQ_PREDICT_OPTIONS_INIT;
        given.multimask_output = options.multimask_output ? 1 : 0;
        given.hq_token_only = options.hq_token_only ? 1 : 0;
        given.return_logits = options.return_logits ? 1 : 0;
        if (!options.hq_token.empty()) given.hq_token = options.hq_token.data();
        given.hq_token_size = static_cast<std::int64_t>(options.hq_token.size());
        if (options.mask_threshold) given.mask_threshold = &*options.mask_threshold;
        given.cancellation = Cancellation::handle_of(options.cancellation);
        samhq_result* result = nullptr;
        samhq_error error;
        detail::check(samhq_predict(handle_.get(), &view, &given, &result, &error), error);
        return Result(result);
    }

    // What was encoded, as a .safetensors file that `Bundle::load` reads, and the Python runtime.
    void save(const std::string& path, bool float16 = false) const {
        samhq_error error;
        detail::check(samhq_image_save(handle_.get(), path.c_str(), float16 ? 1 : 0, &error), error);
    }

    const samhq_image* handle() const noexcept { return handle_.get(); }

  private:
    detail::Owned<samhq_image> handle_;
};

class Bundle {
  public:
    explicit Bundle(const std::string& path, const Options& options = {}) {
        if (samhq_abi_version() != SAMHQ_ABI_VERSION) {
            throw Error(SAMHQ_ERROR_ARGUMENT, "the samhq library is of another ABI version than samhq.h");
        }
        samhq_bundle_options given = SAMHQ_BUNDLE_OPTIONS_INIT;
        given.providers = options.providers.c_str();
        given.threads = options.threads;
        given.device_id = options.device_id;
        given.prompts_per_call = options.prompts_per_call;
        std::vector<const char*> texts;
        for (const std::string& option : options.provider_options) texts.push_back(option.c_str());
        given.provider_options = texts.data();
        given.provider_option_count = texts.size();
        if (!options.onnxruntime.empty()) given.onnxruntime = options.onnxruntime.c_str();
        samhq_bundle* bundle = nullptr;
        samhq_error error;
        detail::check(samhq_bundle_open(path.c_str(), &given, &bundle, &error), error);
        handle_.reset(bundle);
    }

    samhq_bundle_info info() const {  // strings in it belong to the bundle
        samhq_bundle_info info = SAMHQ_BUNDLE_INFO_INIT;
        samhq_error error;
        detail::check(samhq_bundle_get_info(handle_.get(), &info, &error), error);
        return info;
    }

    Image encode(const Pixels& pixels, const Cancellation* cancellation = nullptr) const {
        samhq_encode_options options = SAMHQ_ENCODE_OPTIONS_INIT;
        options.pixel_format = pixels.format;
        options.cancellation = Cancellation::handle_of(cancellation);
        samhq_image* image = nullptr;
        samhq_error error;
        detail::check(samhq_image_encode_pixels(handle_.get(), pixels.rgb, pixels.height, pixels.width,
                                                pixels.row_stride, &options, &image, &error),
                      error);
        return Image(image);
    }

    // An image that was saved by this bundle, here or in the Python runtime.
    Image load(const std::string& path) const {
        samhq_image* image = nullptr;
        samhq_error error;
        detail::check(samhq_image_load(handle_.get(), path.c_str(), &image, &error), error);
        return Image(image);
    }

    // The HQ token of a .npy or .safetensors file, for PredictOptions.
    std::vector<float> read_hq_token(const std::string& path) const {
        std::vector<float> token(static_cast<std::size_t>(info().embed_dim));
        samhq_error error;
        detail::check(samhq_bundle_read_hq_token(handle_.get(), path.c_str(), token.data(),
                                                 static_cast<std::int64_t>(token.size()), &error),
                      error);
        return token;
    }

    const samhq_bundle* handle() const noexcept { return handle_.get(); }

  private:
    detail::Owned<samhq_bundle> handle_;
};

}  // namespace samhq

#endif
