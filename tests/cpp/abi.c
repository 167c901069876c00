/* abi BUNDLE [BROKEN...]: every misuse of the C interface has its documented status; then the status of opening each
 * broken bundle, a line each. Exits with the number of checks that failed. */
#include <limits.h>
#include <math.h>
#include <samhq/samhq.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures = 0;

static void expect(samhq_status wanted, samhq_status got, const samhq_error* error, const char* what) {
    const int said = wanted == SAMHQ_OK ? error->message[0] == '\0' : error->message[0] != '\0';
    if (got == wanted && error->status == wanted && said) return;
    ++failures;
    printf("FAILED %s: %s instead of %s (%s)\n", what, samhq_status_name(got), samhq_status_name(wanted),
           error->message);
}

#define SIDE 24
static uint8_t pixels[SIDE * SIDE * 3];

static void check_open(const char* path) {
    samhq_error error;
    samhq_bundle* bundle = (samhq_bundle*)&error; /* must become NULL */
    samhq_bundle_options options = SAMHQ_BUNDLE_OPTIONS_INIT;
    struct {
        samhq_bundle_options known;
        int64_t from_the_future; /* no padding behind it */
    } newer = {SAMHQ_BUNDLE_OPTIONS_INIT, 0};

    expect(SAMHQ_ERROR_ARGUMENT, samhq_bundle_open(NULL, NULL, &bundle, &error), &error, "NULL path");
    if (bundle != NULL) ++failures, printf("FAILED: a handle after an error\n");
    expect(SAMHQ_ERROR_ARGUMENT, samhq_bundle_open(path, NULL, NULL, &error), &error, "NULL out");
    options.struct_size = 0;
    expect(SAMHQ_ERROR_ARGUMENT, samhq_bundle_open(path, &options, &bundle, &error), &error, "no struct_size");
    options.struct_size = sizeof options;
    options.providers = "tpu";
    expect(SAMHQ_ERROR_CONFIG, samhq_bundle_open(path, &options, &bundle, &error), &error, "unknown provider");
    options.providers = "";
    expect(SAMHQ_ERROR_CONFIG, samhq_bundle_open(path, &options, &bundle, &error), &error, "no provider");
    options.providers = "cpu,cpu";
    expect(SAMHQ_ERROR_CONFIG, samhq_bundle_open(path, &options, &bundle, &error), &error, "provider twice");
    options.providers = "cuda,cpu"; /* not in the CPU build of ONNX Runtime */
    expect(SAMHQ_ERROR_UNAVAILABLE, samhq_bundle_open(path, &options, &bundle, &error), &error, "absent provider");
    options.providers = NULL;
    options.threads = -1;
    expect(SAMHQ_ERROR_CONFIG, samhq_bundle_open(path, &options, &bundle, &error), &error, "negative threads");
    options.threads = 100000; /* ONNX Runtime would end the process */
    expect(SAMHQ_ERROR_CONFIG, samhq_bundle_open(path, &options, &bundle, &error), &error, "too many threads");
    options.threads = 1;
    options.onnxruntime = "/no/such/library.so";
    expect(SAMHQ_ERROR_UNAVAILABLE, samhq_bundle_open(path, &options, &bundle, &error), &error, "no ONNX Runtime");
    options.onnxruntime = "libm.so.6";
    expect(SAMHQ_ERROR_UNAVAILABLE, samhq_bundle_open(path, &options, &bundle, &error), &error, "another library");

    options.onnxruntime = NULL;
    options.provider_option_count = 1;
    expect(SAMHQ_ERROR_ARGUMENT, samhq_bundle_open(path, &options, &bundle, &error), &error, "NULL provider options");
    options.struct_size = offsetof(samhq_bundle_options, provider_options); /* a caller of the first version */
    expect(SAMHQ_OK, samhq_bundle_open(path, &options, &bundle, &error), &error, "older struct");
    samhq_bundle_close(bundle);

    newer.known.struct_size = sizeof newer;
    expect(SAMHQ_OK, samhq_bundle_open(path, &newer.known, &bundle, &error), &error, "newer struct, field not used");
    samhq_bundle_close(bundle);
    newer.from_the_future = 1;
    expect(SAMHQ_ERROR_ARGUMENT, samhq_bundle_open(path, &newer.known, &bundle, &error), &error, "newer struct, used");
}

static void check_images(const samhq_bundle* bundle) {
    static const struct {
        const char* what;
        int64_t height, width, stride;
    } rows[] = {
        {"no height", 0, SIDE, 0},
        {"no width", SIDE, 0, 0},
        {"negative height", -1, SIDE, 0},
        {"negative width", SIDE, -SIDE, 0},
        {"huge height", INT64_MAX, 1, 0},
        {"huge width", 1, INT64_MAX, 0},
        {"huge both", INT64_MAX, INT64_MAX, INT64_MAX},
        {"short stride", SIDE, SIDE, 3 * SIDE - 1},
        {"negative stride", SIDE, SIDE, -3 * SIDE},
        {"overflowing", INT64_MAX / 3 + 1, INT64_MAX / 3 + 1, 0},
    };
    size_t i;
    samhq_error error;
    samhq_image* image = NULL;
    samhq_encode_options options = SAMHQ_ENCODE_OPTIONS_INIT;
    for (i = 0; i < sizeof rows / sizeof *rows; ++i) {
        expect(SAMHQ_ERROR_IMAGE,
               samhq_image_encode(bundle, pixels, rows[i].height, rows[i].width, rows[i].stride, &image, &error),
               &error, rows[i].what);
    }
    expect(SAMHQ_ERROR_ARGUMENT, samhq_image_encode(bundle, NULL, SIDE, SIDE, 0, &image, &error), &error,
           "NULL pixels");
    expect(SAMHQ_ERROR_ARGUMENT, samhq_image_encode(NULL, pixels, SIDE, SIDE, 0, &image, &error), &error,
           "NULL bundle");
    options.pixel_format = 4;
    expect(SAMHQ_ERROR_IMAGE, samhq_image_encode_pixels(bundle, pixels, 2, 2, 0, &options, &image, &error), &error,
           "unknown pixel format");
    options.pixel_format = SAMHQ_PIXELS_BGRA;
    expect(SAMHQ_ERROR_IMAGE, samhq_image_encode_pixels(bundle, pixels, 2, 2, 7, &options, &image, &error), &error,
           "short stride of four bytes a pixel");
    expect(SAMHQ_ERROR_ARGUMENT, samhq_image_load(bundle, NULL, &image, &error), &error, "NULL path of an embedding");
    expect(SAMHQ_ERROR_ARGUMENT, samhq_image_save(NULL, "x", 0, &error), &error, "NULL image to save");
    expect(SAMHQ_ERROR_ARGUMENT, samhq_bundle_read_hq_token(bundle, "x.npy", NULL, 1, &error), &error, "NULL token");
}

/* Good prompts of which each row of check_prompts spoils one thing. */
static const double coords[4] = {3, 4, 10, 12}, boxes[8] = {2, 2, 20, 20, 1, 1, 5, 5};
static const int32_t labels[2] = {1, 0};

static samhq_prompts good_prompts(void) {
    samhq_prompts prompts = SAMHQ_PROMPTS_INIT;
    prompts.point_coords = coords;
    prompts.point_labels = labels;
    prompts.point_sets = 1;
    prompts.points = 2;
    prompts.boxes = boxes;
    prompts.box_count = 2;
    return prompts;
}

static void expect_prompt_error(const samhq_image* image, const samhq_prompts* prompts, const char* what) {
    samhq_error error;
    samhq_result* result = NULL;
    expect(SAMHQ_ERROR_PROMPT, samhq_predict(image, prompts, NULL, &result, &error), &error, what);
}

#define SPOILED(what, change)                       \
    do {                                            \
        samhq_prompts prompts = good_prompts();     \
        change;                                     \
        expect_prompt_error(image, &prompts, what); \
    } while (0)

static void check_prompts(const samhq_image* image, int64_t side) {
    const double nan_point[4] = {3, NAN, 10, 12}, infinite[4] = {3, 4, INFINITY, 12}, beyond[4] = {3, 4, 1e39, 12};
    const double nan_box[4] = {1, 2, NAN, 4}, swapped[4] = {5, 1, 2, 8};
    const int32_t bad_labels[2] = {1, 2};
    float* mask = calloc((size_t)(3 * side * side), sizeof *mask); /* up to three of them */
    const samhq_prompts none = SAMHQ_PROMPTS_INIT;

    expect_prompt_error(image, &none, "no prompt");
    SPOILED("NaN point", prompts.point_coords = nan_point);
    SPOILED("infinite point", prompts.point_coords = infinite);
    SPOILED("point beyond float32", prompts.point_coords = beyond);
    SPOILED("label 2", prompts.point_labels = bad_labels);
    SPOILED("points without labels", prompts.point_labels = NULL);
    SPOILED("labels without points", prompts.point_coords = NULL);
    SPOILED("empty set", prompts.points = 0);
    SPOILED("negative count", prompts.points = -2);
    SPOILED("more points than a set may have", prompts.points = 1025);
    SPOILED("huge count", prompts.points = INT64_MAX);
    SPOILED("huge sets", prompts.point_sets = INT64_MAX);
    SPOILED("many large sets", (prompts.point_sets = 1 << 20, prompts.points = 1 << 20));
    SPOILED("NaN box", (prompts.boxes = nan_box, prompts.box_count = 1));
    SPOILED("swapped corners", (prompts.boxes = swapped, prompts.box_count = 1));
    SPOILED("NULL boxes", prompts.boxes = NULL);
    SPOILED("huge box count", prompts.box_count = INT64_MAX);
    SPOILED("1 point for 2 objects of 3", (prompts.point_sets = 2, prompts.points = 1, prompts.mask_count = 3,
                                           prompts.mask_side = side, prompts.mask_input = mask, prompts.box_count = 0));
    SPOILED("mask of another side", (prompts.mask_input = mask, prompts.mask_count = 1, prompts.mask_side = side - 1));
    SPOILED("mask of a huge side", (prompts.mask_input = mask, prompts.mask_count = 1, prompts.mask_side = INT64_MAX));
    SPOILED("NULL mask", (prompts.mask_count = 1, prompts.mask_side = side));
    mask[side] = NAN;
    SPOILED("NaN mask", (prompts.mask_input = mask, prompts.mask_count = 1, prompts.mask_side = side));
    free(mask);
}

/* A plain SAM has no HQ token: the good token of another bundle is refused, and so is its mask alone. */
static void check_no_hq(const samhq_image* image, int64_t embed_dim) {
    samhq_error error;
    samhq_result* result = NULL;
    const samhq_prompts prompts = good_prompts();
    samhq_predict_options options = SAMHQ_PREDICT_OPTIONS_INIT;
    float* token = calloc((size_t)embed_dim, sizeof *token);
    options.hq_token_only = 1;
    expect(SAMHQ_ERROR_PROMPT, samhq_predict(image, &prompts, &options, &result, &error), &error, "no HQ mask");
    options.hq_token_only = 0;
    options.hq_token = token;
    options.hq_token_size = embed_dim;
    expect(SAMHQ_ERROR_PROMPT, samhq_predict(image, &prompts, &options, &result, &error), &error, "no HQ token");
    free(token);
}

static void check_run_lengths(const samhq_result* result) {
    samhq_error error;
    const char *counts = NULL, *again = NULL;
    expect(SAMHQ_OK, samhq_result_get_rle(result, 1, 0, &counts, &error), &error, "run lengths");
    expect(SAMHQ_OK, samhq_result_get_rle(result, 1, 0, &again, &error), &error, "run lengths again");
    if (counts == NULL || counts != again) ++failures, printf("FAILED: other run lengths the second time\n");
    expect(SAMHQ_ERROR_ARGUMENT, samhq_result_get_rle(result, 2, 0, &counts, &error), &error, "no such object");
    expect(SAMHQ_ERROR_ARGUMENT, samhq_result_get_rle(result, 0, 1, &counts, &error), &error, "no such mask");
    expect(SAMHQ_ERROR_ARGUMENT, samhq_result_get_rle(result, 0, 0, NULL, &error), &error, "NULL counts");
}

static void check_options(const samhq_image* image, int64_t embed_dim) {
    samhq_error error;
    samhq_result* result = NULL;
    samhq_result_view view = SAMHQ_RESULT_VIEW_INIT;
    const samhq_prompts prompts = good_prompts();
    samhq_predict_options options = SAMHQ_PREDICT_OPTIONS_INIT;
    const double not_a_number = NAN;
    float* token = calloc((size_t)embed_dim, sizeof *token);
    options.mask_threshold = &not_a_number;
    expect(SAMHQ_ERROR_PROMPT, samhq_predict(image, &prompts, &options, &result, &error), &error, "NaN threshold");
    options.struct_size = offsetof(samhq_predict_options, mask_threshold); /* a caller of the first version */
    expect(SAMHQ_OK, samhq_predict(image, &prompts, &options, &result, &error), &error, "older options");
    samhq_result_close(result);
    options.struct_size = sizeof options;
    options.mask_threshold = NULL;
    options.hq_token = token;
    options.hq_token_size = embed_dim - 1;
    expect(SAMHQ_ERROR_PROMPT, samhq_predict(image, &prompts, &options, &result, &error), &error, "short token");
    options.hq_token_size = embed_dim;
    token[0] = INFINITY;
    expect(SAMHQ_ERROR_PROMPT, samhq_predict(image, &prompts, &options, &result, &error), &error, "infinite token");
    options.hq_token = NULL;
    expect(SAMHQ_ERROR_PROMPT, samhq_predict(image, &prompts, &options, &result, &error), &error, "NULL token");
    expect(SAMHQ_ERROR_ARGUMENT, samhq_predict(image, NULL, NULL, &result, &error), &error, "NULL prompts");
    expect(SAMHQ_ERROR_ARGUMENT, samhq_predict(NULL, &prompts, NULL, &result, &error), &error, "NULL image");
    free(token);
    expect(SAMHQ_OK, samhq_predict(image, &prompts, NULL, &result, &error), &error, "good prompts");
    view.struct_size = 1;
    expect(SAMHQ_ERROR_ARGUMENT, samhq_result_get_view(result, &view, &error), &error, "short view");
    view.struct_size = sizeof view;
    expect(SAMHQ_OK, samhq_result_get_view(result, &view, &error), &error, "view");
    if (view.objects != 2 || view.masks_per_object != 1 || view.height != SIDE || view.logits != NULL) ++failures;
    check_run_lengths(result);
    samhq_result_close(result);
}

int main(int argc, char** argv) {
    int i;
    samhq_error error;
    samhq_bundle* bundle = NULL;
    samhq_image* image = NULL;
    samhq_bundle_info info = SAMHQ_BUNDLE_INFO_INIT;
    samhq_bundle_options options = SAMHQ_BUNDLE_OPTIONS_INIT;
    if (argc < 2) return 99;
    options.threads = 1;

    check_open(argv[1]);
    expect(SAMHQ_OK, samhq_bundle_open(argv[1], &options, &bundle, NULL), &(samhq_error){SAMHQ_OK, ""}, "open");
    expect(SAMHQ_OK, samhq_bundle_get_info(bundle, &info, &error), &error, "info");
    check_images(bundle);
    expect(SAMHQ_OK, samhq_image_encode(bundle, pixels, SIDE, SIDE, 0, &image, &error), &error, "encode");
    samhq_bundle_close(bundle); /* the image stays usable */
    check_prompts(image, info.low_res_size);
    check_options(image, info.embed_dim);
    if (!info.has_hq_token) check_no_hq(image, info.embed_dim);
    samhq_image_close(image);
    samhq_bundle_close(NULL);
    samhq_image_close(NULL);
    samhq_result_close(NULL);
    samhq_cancellation_request(NULL);
    samhq_cancellation_close(NULL);

    for (i = 2; i < argc; ++i) {
        const samhq_status status = samhq_bundle_open(argv[i], &options, &bundle, &error);
        printf("%s %s\n", samhq_status_name(status), error.message);
        samhq_bundle_close(bundle);
    }
    return failures;
}
