/* segment_c BUNDLE IMAGE.ppm X Y MASK.pgm: the mask of the object at a point, in C, with images as binary PPM and PGM.
 */
#include <samhq/samhq.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct picture {
    uint8_t* rgb;
    int width;
    int height;
} picture;

static int read_ppm(const char* path, picture* out) {
    int maximum = 0, complete = 0;
    FILE* file = fopen(path, "rb");
    if (file == NULL) return 0;
    if (fscanf(file, "P6 %d %d %d", &out->width, &out->height, &maximum) == 3 && maximum == 255 && out->width > 0 &&
        out->height > 0 && out->width < 32768 && out->height < 32768 && fgetc(file) != EOF) {
        const size_t bytes = (size_t)3 * (size_t)out->width * (size_t)out->height;
        out->rgb = malloc(bytes);
        complete = out->rgb != NULL && fread(out->rgb, 1, bytes, file) == bytes;
    }
    fclose(file);
    return complete;
}

static int write_pgm(const char* path, const samhq_result_view* view) {
    int64_t i, written = 0;
    FILE* file = fopen(path, "wb");
    if (file == NULL) return 0;
    fprintf(file, "P5\n%d %d\n255\n", (int)view->width, (int)view->height);
    for (i = 0; i < view->width * view->height; ++i) written += fputc(view->masks[i] ? 255 : 0, file) != EOF;
    return fclose(file) == 0 && written == i;
}

/* `error` says what the library failed with, `written` becomes 0 if the mask was not. */
static samhq_status segment(const char* bundle_path, const picture* input, double x, double y, const char* output,
                            int* written, samhq_error* error) {
    samhq_bundle* bundle = NULL;
    samhq_image* image = NULL;
    samhq_result* result = NULL;
    samhq_prompts prompts = SAMHQ_PROMPTS_INIT;
    samhq_predict_options options = SAMHQ_PREDICT_OPTIONS_INIT;
    samhq_result_view view = SAMHQ_RESULT_VIEW_INIT;
    const double point[2] = {x, y};
    const int32_t label = 1;
    samhq_status status = samhq_bundle_open(bundle_path, NULL, &bundle, error);

    if (status == SAMHQ_OK)
        status = samhq_image_encode(bundle, input->rgb, input->height, input->width, 0, &image, error);
    if (status == SAMHQ_OK) {
        prompts.point_coords = point;
        prompts.point_labels = &label;
        prompts.point_sets = 1;
        prompts.points = 1;
        options.multimask_output = 1; /* one point is ambiguous */
        status = samhq_predict(image, &prompts, &options, &result, error);
    }
    if (status == SAMHQ_OK) status = samhq_result_get_view(result, &view, error);
    if (status == SAMHQ_OK && !write_pgm(output, &view)) {
        perror(output);
        *written = 0;
    }
    samhq_result_close(result);
    samhq_image_close(image);
    samhq_bundle_close(bundle);
    return status;
}

int main(int argc, char** argv) {
    int written = 1;
    picture input = {NULL, 0, 0};
    samhq_error error = {SAMHQ_OK, ""};
    if (argc != 6) {
        fprintf(stderr, "usage: segment_c BUNDLE IMAGE.ppm X Y MASK.pgm\n");
        return 2;
    }
    if (!read_ppm(argv[2], &input)) {
        fprintf(stderr, "%s: cannot be read as a binary PPM file\n", argv[2]);
        free(input.rgb);
        return 1;
    }
    segment(argv[1], &input, atof(argv[3]), atof(argv[4]), argv[5], &written, &error);
    free(input.rgb);
    if (error.status != SAMHQ_OK) fprintf(stderr, "%s: %s\n", samhq_status_name(error.status), error.message);
    return error.status == SAMHQ_OK && written ? 0 : 1;
}
