// The C ABI over samhq_core: versioned structs in, handles out, exceptions turned into statuses.
#include <samhq/samhq.h>

#include <cstring>
#include <new>

#include "predictor.hpp"

using samhq_core::concat;
using samhq_core::Error;

struct samhq_bundle {
    std::shared_ptr<const samhq_core::Model> model;
};

struct samhq_image {
    std::shared_ptr<const samhq_core::Model> model;  // outlives the bundle's handle if need be
    samhq_core::EncodedImage encoded;
};

struct samhq_result {
    samhq_core::Result result;
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

[[noreturn]] void bad_argument(const std::string& message) { throw Error(SAMHQ_ERROR_ARGUMENT, message); }

void require(const void* pointer, const char* name) {
    if (pointer == nullptr) bad_argument(concat(name, " is NULL"));
}

constexpr size_t kMaxStruct = 4096;
constexpr int32_t kMaxThreads = 1024;  // ONNX Runtime ends the process when it cannot start its threads
constexpr int32_t kPromptsPerCall =
    8;  // as the Python runtime: results are equal to the bit in groups of the same size

void require_struct_size(size_t size, size_t least, const char* name) {
    if (size < least || size > kMaxStruct) bad_argument(concat(name, ": struct_size is ", size, "; set it to sizeof"));
}

// The caller's struct as this version knows it: 0 for what an older caller does not have; what only a newer one has
// must be 0. Fields of version 1 are always there.
template <class Struct>
Struct read_struct(const Struct* given, const char* name) {
    require(given, name);
    require_struct_size(given->struct_size, sizeof(Struct), name);
    const auto* bytes = reinterpret_cast<const unsigned char*>(given);
    for (size_t i = sizeof(Struct); i < given->struct_size; ++i) {
        if (bytes[i] != 0) bad_argument(concat(name, ": sets a field that only a newer samhq knows"));
    }
    return *given;
}

template <class Struct>
Struct read_optional(const Struct* given, const char* name) {
    if (given != nullptr) return read_struct(given, name);
    Struct defaults{};
    defaults.struct_size = sizeof(Struct);
    return defaults;
}

// Fill the caller's struct; fields of newer versions stay as they are.
template <class Struct>
void write_struct(Struct* out, Struct filled, const char* name) {
    require_struct_size(out->struct_size, sizeof(Struct), name);
    filled.struct_size = out->struct_size;
    *out = filled;
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
        samhq_core::SessionConfig config;
        if (given.providers != nullptr) config.providers = given.providers;
        config.threads = given.threads;
        config.device_id = given.device_id;
        if (config.threads < 0 || config.device_id < 0 || given.prompts_per_call < 0) {
            throw Error(SAMHQ_ERROR_CONFIG, "threads, device_id and prompts_per_call: expected 0 or more");
        }
        if (config.threads > kMaxThreads) {
            throw Error(SAMHQ_ERROR_CONFIG,
                        concat("threads: got ", config.threads, ", expected at most ", kMaxThreads));
        }
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

samhq_status samhq_image_encode(const samhq_bundle* bundle, const uint8_t* rgb, int64_t height, int64_t width,
                                int64_t row_stride, samhq_image** out, samhq_error* error) {
    return guarded(error, [&] {
        require(out, "out");
        *out = nullptr;
        require(bundle, "bundle");
        require(rgb, "rgb");
        samhq_core::ImageView view{rgb, {height, width}, row_stride};
        if (row_stride == 0 && width > 0 && width < INT64_MAX / 3) view.row_stride = 3 * width;
        samhq_core::EncodedImage encoded = bundle->model->encode(view);
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
        *out = new samhq_result{image->model->predict(image->encoded, given, chosen)};
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

void samhq_result_close(samhq_result* result) { delete result; }
