// The C ABI over samhq_core: versioned structs in, handles out, exceptions turned into statuses.
#include <samhq/samhq.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <new>

#include "hq_token.hpp"
#include "predictor.hpp"
#include "rle.hpp"
#include "structs.hpp"

using samhq_core::bad_argument;
using samhq_core::concat;
using samhq_core::Error;
using samhq_core::read_optional;
using samhq_core::read_struct;
using samhq_core::require;
using samhq_core::write_struct;

struct samhq_bundle {
    std::shared_ptr<const samhq_core::Model> model;
};

struct samhq_image {
    std::shared_ptr<const samhq_core::Model> model;  // outlives the bundle's handle if need be
    samhq_core::EncodedImage encoded;
};

struct samhq_result {
    samhq_core::Result result;
    mutable std::mutex encoding;
    mutable std::map<int64_t, std::string> rles;  // by mask, of those that were asked for
};

struct samhq_cancellation {
    samhq_core::Cancellation request;
};

namespace {

samhq_status report(samhq_error* error, samhq_status status, const char* message) noexcept {
    if (error == nullptr) return status;
    size_t length = std::strlen(message);
    if (length >= sizeof error->message) {
        length = sizeof error->message - 1;
        while (length > 0 && (static_cast<unsigned char>(message[length]) & 0xC0) == 0x80)
            --length;  // whole characters
    }
    error->status = status;
    std::memcpy(error->message, message, length);
    error->message[length] = '\0';
    return status;
}

template <class Body>
samhq_status guarded(samhq_error* error, const Body& body) noexcept {
    try {
        body();
        return report(error, SAMHQ_OK, "");
    } catch (const Error& e) {
        return report(error, e.status(), e.what());
    } catch (const std::bad_alloc&) {
        return report(error, SAMHQ_ERROR_MEMORY, "out of memory");
    } catch (const std::exception& e) {
        return report(error, SAMHQ_ERROR_INTERNAL, e.what());
    } catch (...) {
        return report(error, SAMHQ_ERROR_INTERNAL, "unknown exception");
    }
}

constexpr int32_t kMaxThreads = 1024;  // ONNX Runtime ends the process when it cannot start its threads
constexpr int32_t kPromptsPerCall =
    8;  // as the Python runtime: results are equal to the bit in groups of the same size

const samhq_core::Cancellation* request_of(const samhq_cancellation* cancellation) {
    return cancellation == nullptr ? nullptr : &cancellation->request;
}

samhq_core::SessionConfig session_config(const samhq_bundle_options& given) {
    samhq_core::SessionConfig config;
    config.threads = given.threads;
    config.device_id = given.device_id;
    if (config.threads < 0 || config.device_id < 0 || given.prompts_per_call < 0) {
        throw Error(SAMHQ_ERROR_CONFIG, "threads, device_id and prompts_per_call: expected 0 or more");
    }
    if (config.threads > kMaxThreads) {
        throw Error(SAMHQ_ERROR_CONFIG, concat("threads: got ", config.threads, ", expected at most ", kMaxThreads));
    }
    if (given.provider_option_count > 0) require(given.provider_options, "provider_options");
    std::vector<std::string> options;
    for (size_t i = 0; i < given.provider_option_count; ++i) {
        require(given.provider_options[i], "a provider option");
        options.emplace_back(given.provider_options[i]);
    }
    config.providers = samhq_core::provider_choices(given.providers == nullptr ? "cpu" : given.providers, options);
    return config;
}

}  // namespace

const char* samhq_version(void) { return SAMHQ_VERSION; }

int32_t samhq_abi_version(void) { return SAMHQ_ABI_VERSION; }

const char* samhq_status_name(samhq_status status) {
    switch (status) {
#define SAMHQ_NAME(name) \
    case name: return #name
        SAMHQ_NAME(SAMHQ_OK);
        SAMHQ_NAME(SAMHQ_ERROR_ARGUMENT);
        SAMHQ_NAME(SAMHQ_ERROR_CONFIG);
        SAMHQ_NAME(SAMHQ_ERROR_IMAGE);
        SAMHQ_NAME(SAMHQ_ERROR_PROMPT);
        SAMHQ_NAME(SAMHQ_ERROR_BUNDLE_MISSING);
        SAMHQ_NAME(SAMHQ_ERROR_BUNDLE_INVALID);
        SAMHQ_NAME(SAMHQ_ERROR_BUNDLE_SCHEMA);
        SAMHQ_NAME(SAMHQ_ERROR_BUNDLE_UNSAFE);
        SAMHQ_NAME(SAMHQ_ERROR_BUNDLE_DAMAGED);
        SAMHQ_NAME(SAMHQ_ERROR_CONTRACT);
        SAMHQ_NAME(SAMHQ_ERROR_UNAVAILABLE);
        SAMHQ_NAME(SAMHQ_ERROR_BACKEND);
        SAMHQ_NAME(SAMHQ_ERROR_MEMORY);
        SAMHQ_NAME(SAMHQ_ERROR_INTERNAL);
        SAMHQ_NAME(SAMHQ_ERROR_CANCELLED);
        SAMHQ_NAME(SAMHQ_ERROR_BUNDLE_UNREADABLE);
        SAMHQ_NAME(SAMHQ_ERROR_EMBEDDING);
        SAMHQ_NAME(SAMHQ_ERROR_HQ_TOKEN);
#undef SAMHQ_NAME
    }
    return "unknown status";
}

samhq_status samhq_bundle_open(const char* path, const samhq_bundle_options* options, samhq_bundle** out,
                               samhq_error* error) {
    return guarded(error, [&] {
        require(out, "out");
        *out = nullptr;
        require(path, "path");
        const samhq_bundle_options given = read_optional(options, "samhq_bundle_options");
        const samhq_core::SessionConfig config = session_config(given);
        const int64_t prompts_per_call = given.prompts_per_call == 0 ? kPromptsPerCall : given.prompts_per_call;
        const char* onnxruntime = given.onnxruntime == nullptr ? "" : given.onnxruntime;
        auto model = std::make_shared<const samhq_core::Model>(path, onnxruntime, config, prompts_per_call);
        *out = new samhq_bundle{std::move(model)};
    });
}

samhq_status samhq_bundle_get_info(const samhq_bundle* bundle, samhq_bundle_info* info, samhq_error* error) {
    return guarded(error, [&] {
        require(bundle, "bundle");
        require(info, "info");
        const samhq_core::Manifest& manifest = bundle->model->manifest();
        samhq_bundle_info filled = SAMHQ_BUNDLE_INFO_INIT;
        filled.variant = manifest.variant.c_str();
        filled.precision = manifest.precision.c_str();
        filled.token_fusion = manifest.token_fusion.c_str();
        filled.image_size = manifest.sizes.image_size;
        filled.embed_dim = manifest.sizes.embed_dim;
        filled.low_res_size = manifest.sizes.low_res_size();
        filled.has_hq_token = manifest.sizes.has_hq() ? 1 : 0;
        filled.mask_threshold = manifest.mask_threshold;
        write_struct(info, filled, "samhq_bundle_info");
    });
}

void samhq_bundle_close(samhq_bundle* bundle) { delete bundle; }

samhq_status samhq_bundle_read_hq_token(const samhq_bundle* bundle, const char* path, float* token, int64_t size,
                                        samhq_error* error) {
    return guarded(error, [&] {
        require(bundle, "bundle");
        require(path, "path");
        require(token, "token");
        const samhq_core::Manifest& manifest = bundle->model->manifest();
        if (size != manifest.sizes.embed_dim) {
            bad_argument(concat("size: got ", size, ", expected embed_dim, ", manifest.sizes.embed_dim));
        }
        const std::vector<float> values = samhq_core::read_hq_token(path, manifest);
        std::copy(values.begin(), values.end(), token);
    });
}

samhq_status samhq_image_encode(const samhq_bundle* bundle, const uint8_t* rgb, int64_t height, int64_t width,
                                int64_t row_stride, samhq_image** out, samhq_error* error) {
    return samhq_image_encode_pixels(bundle, rgb, height, width, row_stride, nullptr, out, error);
}

samhq_status samhq_image_encode_pixels(const samhq_bundle* bundle, const uint8_t* pixels, int64_t height,
                                       int64_t width, int64_t row_stride, const samhq_encode_options* options,
                                       samhq_image** out, samhq_error* error) {
    return guarded(error, [&] {
        require(out, "out");
        *out = nullptr;
        require(bundle, "bundle");
        require(pixels, "pixels");
        const samhq_encode_options given = read_optional(options, "samhq_encode_options");
        const samhq_core::Pixels view{pixels, {height, width}, row_stride, given.pixel_format};
        samhq_core::EncodedImage encoded = bundle->model->encode(view, request_of(given.cancellation));
        *out = new samhq_image{bundle->model, std::move(encoded)};
    });
}

samhq_status samhq_image_save(const samhq_image* image, const char* path, int32_t float16, samhq_error* error) {
    return guarded(error, [&] {
        require(image, "image");
        require(path, "path");
        image->model->save(image->encoded, path, float16 != 0);
    });
}

samhq_status samhq_image_load(const samhq_bundle* bundle, const char* path, samhq_image** out, samhq_error* error) {
    return guarded(error, [&] {
        require(out, "out");
        *out = nullptr;
        require(bundle, "bundle");
        require(path, "path");
        samhq_core::EncodedImage encoded = bundle->model->load(path);
        *out = new samhq_image{bundle->model, std::move(encoded)};
    });
}

void samhq_image_close(samhq_image* image) { delete image; }

samhq_status samhq_predict(const samhq_image* image, const samhq_prompts* prompts, const samhq_predict_options* options,
                           samhq_result** out, samhq_error* error) {
    return guarded(error, [&] {
        require(out, "out");
        *out = nullptr;
        require(image, "image");
        const samhq_prompts given = read_struct(prompts, "samhq_prompts");
        const samhq_predict_options chosen = read_optional(options, "samhq_predict_options");
        samhq_core::Result result = image->model->predict(image->encoded, given, chosen, request_of(chosen.cancellation));
        *out = new samhq_result{std::move(result), {}, {}};
    });
}

samhq_status samhq_result_get_view(const samhq_result* result, samhq_result_view* view, samhq_error* error) {
    return guarded(error, [&] {
        require(result, "result");
        require(view, "view");
        const samhq_core::Result& held = result->result;
        samhq_result_view filled = SAMHQ_RESULT_VIEW_INIT;
        filled.objects = held.objects;
        filled.masks_per_object = held.masks_per_object;
        filled.height = held.size.height;
        filled.width = held.size.width;
        filled.low_res_size = held.low_res_size;
        filled.masks = held.masks.get();
        filled.logits = held.logits.get();
        filled.iou_predictions = held.iou_predictions.data();
        filled.low_res_logits = held.low_res_logits.data();
        write_struct(view, filled, "samhq_result_view");
    });
}

samhq_status samhq_result_get_rle(const samhq_result* result, int64_t object, int64_t mask, const char** counts,
                                  samhq_error* error) {
    return guarded(error, [&] {
        require(counts, "counts");
        *counts = nullptr;
        require(result, "result");
        const samhq_core::Result& held = result->result;
        if (!held.masks) bad_argument("result: has logits instead of masks");
        if (object < 0 || object >= held.objects || mask < 0 || mask >= held.masks_per_object) {
            bad_argument(concat("result: has no mask ", mask, " of object ", object));
        }
        const int64_t index = object * held.masks_per_object + mask;
        const std::lock_guard<std::mutex> lock(result->encoding);
        std::string& text = result->rles[index];
        if (text.empty()) {
            text = samhq_core::rle_counts(held.masks.get() + index * held.size.height * held.size.width, held.size);
        }
        *counts = text.c_str();
    });
}

void samhq_result_close(samhq_result* result) { delete result; }

samhq_status samhq_cancellation_create(samhq_cancellation** out, samhq_error* error) {
    return guarded(error, [&] {
        require(out, "out");
        *out = nullptr;
        *out = new samhq_cancellation{};
    });
}

void samhq_cancellation_request(samhq_cancellation* cancellation) {
    if (cancellation != nullptr) cancellation->request.request();
}

void samhq_cancellation_close(samhq_cancellation* cancellation) { delete cancellation; }
