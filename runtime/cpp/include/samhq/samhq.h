/* samhq: segment images with a SAM-HQ bundle, from C.
 *
 * Handles are opaque. Every function that can fail returns a samhq_status and, if `error` is not NULL, fills it;
 * nothing is kept per process or per thread. No C++ exception leaves the library. Where a function documents an `out`
 * handle, it is set to NULL on failure.
 *
 * Threads: every function may be called at the same time from any thread, on the same handles too, except that a
 * handle must not be used during or after its own close. Handles may be closed in any order and on any thread.
 *
 * Structs that may grow start with `struct_size`: set it to sizeof the struct (the *_INIT macros do), leave what you do
 * not need 0, and a program keeps working with newer libraries of the same SAMHQ_ABI_VERSION. */
#ifndef SAMHQ_SAMHQ_H
#define SAMHQ_SAMHQ_H

#include <stddef.h>
#include <stdint.h>

/* The version of this project that the header belongs to, and that of the binary interface. */
#define SAMHQ_VERSION "0.1.0"
#define SAMHQ_ABI_VERSION 1

#if defined(__GNUC__)
#define SAMHQ_API __attribute__((visibility("default")))
#else
#define SAMHQ_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* What went wrong. Numbers never change their meaning; new ones may be added. */
typedef enum samhq_status {
    SAMHQ_OK = 0,
    SAMHQ_ERROR_ARGUMENT = 1,       /* a NULL pointer, or a struct that this version does not know */
    SAMHQ_ERROR_CONFIG = 2,         /* an option that cannot be honoured */
    SAMHQ_ERROR_IMAGE = 3,          /* no pixels, or sizes or a stride that do not fit */
    SAMHQ_ERROR_PROMPT = 4,         /* prompts that are missing, malformed or not finite */
    SAMHQ_ERROR_BUNDLE_MISSING = 5, /* no such folder, no manifest in it, or a file it lists is missing */
    SAMHQ_ERROR_BUNDLE_INVALID = 6, /* the manifest is not one of this project */
    SAMHQ_ERROR_BUNDLE_SCHEMA = 7,  /* the manifest is of another schema, e.g. a newer one */
    SAMHQ_ERROR_BUNDLE_UNSAFE = 8,  /* a file of the bundle lies outside its folder */
    SAMHQ_ERROR_BUNDLE_DAMAGED = 9, /* a file, or the manifest itself, is not the one that was hashed */
    SAMHQ_ERROR_CONTRACT = 10,      /* a graph takes or returns other tensors than this library knows */
    SAMHQ_ERROR_UNAVAILABLE = 11,   /* ONNX Runtime or an execution provider cannot be had here */
    SAMHQ_ERROR_BACKEND = 12,       /* ONNX Runtime refused a graph or failed while running it */
    SAMHQ_ERROR_MEMORY = 13,        /* out of memory */
    SAMHQ_ERROR_INTERNAL = 14,      /* a bug of this library */
    SAMHQ_ERROR_CANCELLED = 15,     /* stopped, as a samhq_cancellation asked for */
    SAMHQ_ERROR_BUNDLE_UNREADABLE = 16, /* a file of the bundle is there, but cannot be read */
    SAMHQ_ERROR_EMBEDDING = 17, /* an embedding that is missing, damaged, of another bundle, or cannot be written */
    SAMHQ_ERROR_HQ_TOKEN = 18   /* a file without an HQ token for this model */
} samhq_status;

/* The outcome of one call, owned by the caller; `message` is UTF-8, says what to do, and is cut if too long. */
typedef struct samhq_error {
    samhq_status status;
    char message[1020];
} samhq_error;

typedef struct samhq_bundle samhq_bundle; /* a verified bundle, opened for running */
typedef struct samhq_image samhq_image;   /* an encoded image, for any number of predictions */
typedef struct samhq_result samhq_result; /* what one prediction returned */
typedef struct samhq_cancellation samhq_cancellation; /* a request to stop, for any number of calls */

typedef struct samhq_bundle_options {
    size_t struct_size;
    const char* providers;    /* in order of preference, as "tensorrt,cuda,cpu", each must be available; NULL: "cpu" */
    int32_t threads;          /* CPU threads inside one operator; 0: one per physical core */
    int32_t device_id;        /* which GPU, for cuda and tensorrt */
    int32_t prompts_per_call; /* more objects than these are decoded in groups, which bounds memory; 0: 8 */
    const char* onnxruntime;  /* path of ONNX Runtime's library; NULL: environment SAMHQ_ONNXRUNTIME, or the loader's */
    const char* const* provider_options; /* each "PROVIDER.OPTION=VALUE", as "cuda.gpu_mem_limit=2147483648" */
    size_t provider_option_count;
} samhq_bundle_options;
#define SAMHQ_BUNDLE_OPTIONS_INIT {sizeof(samhq_bundle_options), NULL, 0, 0, 0, NULL, NULL, 0}

/* Facts about a bundle; strings belong to the bundle. */
typedef struct samhq_bundle_info {
    size_t struct_size;
    const char* variant;
    const char* precision;
    const char* token_fusion; /* "none" for a plain SAM, which has no HQ token */
    int64_t image_size;
    int64_t embed_dim;    /* floats in an HQ token */
    int64_t low_res_size; /* side of low_res_logits and mask_input */
    double mask_threshold;
    int32_t has_hq_token; /* 0 for a plain SAM */
} samhq_bundle_info;
#define SAMHQ_BUNDLE_INFO_INIT {sizeof(samhq_bundle_info), NULL, NULL, NULL, 0, 0, 0, 0, 0}

/* The order of the bytes of a pixel. The fourth one is not looked at. */
typedef enum samhq_pixel_format {
    SAMHQ_PIXELS_RGB = 0,
    SAMHQ_PIXELS_BGR = 1,
    SAMHQ_PIXELS_RGBA = 2,
    SAMHQ_PIXELS_BGRA = 3
} samhq_pixel_format;

typedef struct samhq_encode_options {
    size_t struct_size;
    int32_t pixel_format;                   /* a samhq_pixel_format */
    const samhq_cancellation* cancellation; /* stops the call; NULL: nothing does */
} samhq_encode_options;
#define SAMHQ_ENCODE_OPTIONS_INIT {sizeof(samhq_encode_options), 0, NULL}

/* Prompts for B objects of one image. A kind of prompt is left out (count 0), given once for all objects (count 1), or
 * once per object (count B). Coordinates are x, y in pixels of the image. Arrays are only read during the call. */
typedef struct samhq_prompts {
    size_t struct_size;
    const double* point_coords;  /* (point_sets, points, 2) */
    const int32_t* point_labels; /* (point_sets, points): 1 on the object, 0 not, -1 padding */
    int64_t point_sets;          /* 0, 1 or B */
    int64_t points;              /* points in a set */
    const double* boxes;         /* (box_count, 4): x0, y0, x1, y1 */
    int64_t box_count;           /* 0, 1 or B */
    const float* mask_input;     /* (mask_count, mask_side, mask_side): low_res_logits of an earlier prediction */
    int64_t mask_count;          /* 0, 1 or B */
    int64_t mask_side;           /* low_res_size of the bundle */
} samhq_prompts;
#define SAMHQ_PROMPTS_INIT {sizeof(samhq_prompts), NULL, NULL, 0, 0, NULL, 0, NULL, 0, 0}

typedef struct samhq_predict_options {
    size_t struct_size;
    int32_t multimask_output; /* choose among SAM's three candidates; better for ambiguous prompts such as one point */
    int32_t hq_token_only;    /* the HQ token's mask alone, instead of its sum with SAM's */
    int32_t return_logits;    /* float logits of the image's size instead of masks */
    const float* hq_token;    /* replaces the bundle's HQ token in this call; NULL: the bundle's */
    int64_t hq_token_size;    /* floats in it: embed_dim of the bundle */
    const double* mask_threshold;           /* logits above it are inside a mask; NULL: the bundle's */
    const samhq_cancellation* cancellation; /* stops the call; NULL: nothing does */
} samhq_predict_options;
#define SAMHQ_PREDICT_OPTIONS_INIT {sizeof(samhq_predict_options), 0, 0, 0, NULL, 0, NULL, NULL}

/* What a result holds; the arrays belong to it. M is 1, or 3 for multimask_output of a plain SAM or a
 * SAM 2, of which low_res_logits are clamped to between -32 and 32. */
typedef struct samhq_result_view {
    size_t struct_size;
    int64_t objects;              /* B */
    int64_t masks_per_object;     /* M */
    int64_t height;               /* H */
    int64_t width;                /* W */
    int64_t low_res_size;         /* L */
    const uint8_t* masks;         /* (B, M, H, W): 1 inside, 0 outside; NULL if logits were asked for */
    const float* logits;          /* (B, M, H, W), or NULL */
    const float* iou_predictions; /* (B, M) */
    const float* low_res_logits;  /* (B, M, L, L) */
} samhq_result_view;
#define SAMHQ_RESULT_VIEW_INIT {sizeof(samhq_result_view), 0, 0, 0, 0, 0, NULL, NULL, NULL, NULL}

SAMHQ_API const char* samhq_version(void);                    /* SAMHQ_VERSION of the library at run time */
SAMHQ_API int32_t samhq_abi_version(void);                    /* SAMHQ_ABI_VERSION of the library at run time */
SAMHQ_API const char* samhq_status_name(samhq_status status); /* e.g. "SAMHQ_ERROR_PROMPT" */

/* Open the bundle folder at `path`: its manifest is read, every file hashed, both graphs loaded.
 * `options` may be NULL. */
SAMHQ_API samhq_status samhq_bundle_open(const char* path, const samhq_bundle_options* options, samhq_bundle** out,
                                         samhq_error* error);
SAMHQ_API samhq_status samhq_bundle_get_info(const samhq_bundle* bundle, samhq_bundle_info* info, samhq_error* error);
/* Read an HQ token from a .npy or .safetensors file, for samhq_predict_options; one of another token fusion or family of
 * models, as far as the file says, is refused. `size` floats are written, embed_dim of the bundle. */
SAMHQ_API samhq_status samhq_bundle_read_hq_token(const samhq_bundle* bundle, const char* path, float* token,
                                                  int64_t size, samhq_error* error);
/* Images of the bundle stay usable. NULL is ignored, as by the other close functions. */
SAMHQ_API void samhq_bundle_close(samhq_bundle* bundle);

/* Encode (height, width, 3) 8-bit RGB pixels whose rows lie `row_stride` bytes apart (0: 3 * width). The pixels are
 * only read during the call. */
SAMHQ_API samhq_status samhq_image_encode(const samhq_bundle* bundle, const uint8_t* rgb, int64_t height, int64_t width,
                                          int64_t row_stride, samhq_image** out, samhq_error* error);
/* The same for pixels of any samhq_pixel_format, with rows of at least 3 or 4 * width bytes. `options` may be NULL. */
SAMHQ_API samhq_status samhq_image_encode_pixels(const samhq_bundle* bundle, const uint8_t* pixels, int64_t height,
                                                 int64_t width, int64_t row_stride, const samhq_encode_options* options,
                                                 samhq_image** out, samhq_error* error);
/* Write what was encoded to a .safetensors file, whole or not at all, which only the same bundle reads, here or in the
 * Python runtime; one of that name is replaced. With `float16` in half the size, rounded. */
SAMHQ_API samhq_status samhq_image_save(const samhq_image* image, const char* path, int32_t float16,
                                        samhq_error* error);
/* Read such a file: the encoded image again, without its pixels. */
SAMHQ_API samhq_status samhq_image_load(const samhq_bundle* bundle, const char* path, samhq_image** out,
                                        samhq_error* error);
SAMHQ_API void samhq_image_close(samhq_image* image);

/* Segment an encoded image. `options` may be NULL. */
SAMHQ_API samhq_status samhq_predict(const samhq_image* image, const samhq_prompts* prompts,
                                     const samhq_predict_options* options, samhq_result** out, samhq_error* error);
SAMHQ_API samhq_status samhq_result_get_view(const samhq_result* result, samhq_result_view* view, samhq_error* error);
/* A mask in COCO's compressed run-length encoding, as pycocotools writes it for its "counts"; the "size" is the view's
 * [height, width]. The text belongs to the result, which must be of masks, not of logits. */
SAMHQ_API samhq_status samhq_result_get_rle(const samhq_result* result, int64_t object, int64_t mask,
                                            const char** counts, samhq_error* error);
SAMHQ_API void samhq_result_close(samhq_result* result);

/* A request to stop, which is given to calls in their options, and outlives them. Once it is made, for good, they return
 * SAMHQ_ERROR_CANCELLED: those that run, after the operator or the mask that they are at. Any thread may make it. */
SAMHQ_API samhq_status samhq_cancellation_create(samhq_cancellation** out, samhq_error* error);
SAMHQ_API void samhq_cancellation_request(samhq_cancellation* cancellation);
SAMHQ_API void samhq_cancellation_close(samhq_cancellation* cancellation);

#ifdef __cplusplus
}
#endif
#endif
