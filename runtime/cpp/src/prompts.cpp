#include "prompts.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace samhq_core {
namespace {

constexpr float kPaddingLabel = -1, kTopLeftLabel = 2, kBottomRightLabel = 3;
constexpr const char* kInFrame = "coordinates in the model's frame";
constexpr int64_t kMaxCount = 1 << 20;  // of objects, and of points in a set
constexpr int64_t kMaxPointsInAll = 1 << 24;
constexpr int64_t kMaxPoints = 1024;  // of a set: the decoder's attention takes memory that grows with their square

[[noreturn]] void fail(const std::string& message) { throw Error(SAMHQ_ERROR_PROMPT, message); }

[[noreturn]] void not_finite(const char* name) {
    fail(concat(name, ": NaN, infinity, or a number beyond float32 in it"));
}

void require_count(const char* name, int64_t count, const void* array) {
    if (count < 0 || count > kMaxCount) fail(concat(name, ": got ", count, ", expected 0 to ", kMaxCount));
    if (count > 0 && array == nullptr) fail(concat(name, ": got ", count, " with a NULL array"));
}

void require_points(const samhq_prompts& given) {
    require_count("point_sets", given.point_sets, given.point_coords);
    require_count("point_sets", given.point_sets, given.point_labels);
    if (given.point_sets == 0) return;
    require_count("points", given.points, given.point_coords);
    if (given.points == 0) fail("points: got 0 in a set, expected at least 1");
    if (given.points > kMaxPoints) {
        fail(concat("points: got ", given.points, " in a set, expected at most ", kMaxPoints));
    }
    if (given.point_sets * given.points > kMaxPointsInAll) fail(concat("points: more than ", kMaxPointsInAll));
    require_finite("point_coords", given.point_coords, given.point_sets * given.points * 2);
    for (int64_t i = 0; i < given.point_sets * given.points; ++i) {
        const int32_t label = given.point_labels[i];
        if (label != 0 && label != 1 && label != -1) {
            fail(concat("point_labels: got ", label, ", expected 1 (object), 0 (not) or -1 (padding)"));
        }
    }
}

void require_boxes(const samhq_prompts& given) {
    require_count("box_count", given.box_count, given.boxes);
    require_finite("boxes", given.boxes, given.box_count * 4);
    for (const double* box = given.boxes; box < given.boxes + given.box_count * 4; box += 4) {
        if (box[2] < box[0] || box[3] < box[1]) {
            fail("box: expected x0 <= x1 and y0 <= y1; the corners are swapped (or it is x, y, w, h)");
        }
    }
}

void require_masks(const samhq_prompts& given, int64_t low_res_size) {
    require_count("mask_count", given.mask_count, given.mask_input);
    if (given.mask_count == 0) return;
    if (given.mask_side != low_res_size) {
        fail(concat("mask_input: got a side of ", given.mask_side,
                    ", expected low_res_logits of an earlier prediction, ", low_res_size));
    }
    require_finite("mask_input", given.mask_input, given.mask_count * low_res_size * low_res_size);
}

int64_t count_objects(const samhq_prompts& given) {
    int64_t objects = 1;
    for (const int64_t count : {given.point_sets, given.box_count, given.mask_count}) {
        if (count > 1 && objects > 1 && count != objects) {
            fail(concat("prompts for different numbers of objects: ", objects, " and ", count,
                        "; expected the same number, or 1"));
        }
        objects = std::max(objects, count);
    }
    if (given.point_sets + given.box_count + given.mask_count == 0) {
        fail("no prompt: give point_coords with point_labels, a box, or a mask_input");
    }
    return objects;
}

// Appends the points of one object after the other.
class Points {
  public:
    Points(Prompts& prompts, Size original, const ModelSizes& sizes)
        : prompts_(prompts), original_(original), fitted_(fit_size(original, sizes)), sizes_(sizes) {}

    void add(double x, double y, float label) {
        add_coordinate(x, original_.width, fitted_.width);
        add_coordinate(y, original_.height, fitted_.height);
        prompts_.point_labels.push_back(label);
    }

  private:
    void add_coordinate(double at, int64_t original, int64_t fitted) {
        if (sizes_.family->squashed) {  // in float32, as upstream
            const float scaled = static_cast<float>(at) / static_cast<float>(original) * static_cast<float>(fitted);
            require_finite(kInFrame, &scaled, 1);
            prompts_.point_coords.push_back(scaled);
        } else {
            const double scaled = at * (static_cast<double>(fitted) / static_cast<double>(original));
            require_finite(kInFrame, &scaled, 1);
            prompts_.point_coords.push_back(static_cast<float>(scaled));
        }
    }

    Prompts& prompts_;
    const Size original_, fitted_;
    const ModelSizes& sizes_;
};

}  // namespace

void require_finite(const char* name, const float* values, int64_t count) {
    if (!std::all_of(values, values + count, [](float value) { return std::isfinite(value); })) not_finite(name);
}

void require_finite(const char* name, const double* values, int64_t count) {
    const auto fits = [](double value) { return std::fabs(value) <= std::numeric_limits<float>::max(); };
    if (!std::all_of(values, values + count, fits)) not_finite(name);
}

Prompts encode_prompts(const samhq_prompts& given, Size original, const ModelSizes& sizes) {
    require_points(given);
    require_boxes(given);
    require_masks(given, sizes.low_res_size());
    Prompts prompts;
    prompts.objects = count_objects(given);
    Points points(prompts, original, sizes);
    const bool pads = given.point_sets > 0 ? given.box_count == 0 || sizes.family->pads_boxes
                                           : given.box_count > 0 && sizes.family->pads_boxes;
    for (int64_t object = 0; object < prompts.objects; ++object) {
        const int64_t set = given.point_sets == 1 ? 0 : object, first = set * given.points;
        for (int64_t i = first; given.point_sets > 0 && i < first + given.points; ++i) {
            points.add(given.point_coords[2 * i], given.point_coords[2 * i + 1],
                       static_cast<float>(given.point_labels[i]));
        }
        if (given.box_count > 0) {
            const double* box = given.boxes + 4 * (given.box_count == 1 ? 0 : object);
            points.add(box[0], box[1], kTopLeftLabel);
            points.add(box[2], box[3], kBottomRightLabel);
        }
        if (pads) points.add(0, 0, kPaddingLabel);
    }
    prompts.points = static_cast<int64_t>(prompts.point_labels.size()) / prompts.objects;
    prompts.has_mask_input = given.mask_count > 0;
    prompts.masks = std::max<int64_t>(given.mask_count, 1);
    const auto mask_floats = static_cast<size_t>(prompts.masks * sizes.low_res_size() * sizes.low_res_size());
    if (prompts.has_mask_input) {
        prompts.mask_input.assign(given.mask_input, given.mask_input + mask_floats);
    } else {
        prompts.mask_input.resize(mask_floats);
    }
    return prompts;
}

}  // namespace samhq_core
