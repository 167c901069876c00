// cases BUNDLE CASES OUTPUT THREADS: predict every case of a file that tests/cpp/test_cpp.py wrote; in every thread, on
// the same handles. Exits with 3 if a thread's result is not the first one's.
#include <cstring>
#include <fstream>
#include <iostream>
#include <samhq/samhq.hpp>
#include <thread>

namespace {

struct Picture {
    samhq::Pixels pixels;
    std::vector<std::uint8_t> bytes;
};

struct Case {
    std::int64_t image = 0;
    samhq::Prompts prompts;
    samhq::PredictOptions options;
};

class Reader {
  public:
    explicit Reader(const char* path) : file_(path, std::ios::binary) { file_.exceptions(std::ios::failbit); }

    std::int64_t integer() {
        std::int64_t value = 0;
        file_.read(reinterpret_cast<char*>(&value), sizeof value);
        return value;
    }

    template <class T>
    std::vector<T> array() {
        std::vector<T> values(static_cast<std::size_t>(integer()));
        file_.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(values.size() * sizeof(T)));
        return values;
    }

  private:
    std::ifstream file_;
};

std::vector<Picture> read_pictures(Reader& reader) {
    std::vector<Picture> pictures(static_cast<std::size_t>(reader.integer()));
    for (Picture& picture : pictures) {
        picture.pixels.height = reader.integer();
        picture.pixels.width = reader.integer();
        picture.pixels.row_stride = reader.integer();
        picture.bytes = reader.array<std::uint8_t>();
        picture.pixels.rgb = picture.bytes.data();
    }
    return pictures;
}

std::vector<Case> read_cases(Reader& reader) {
    std::vector<Case> cases(static_cast<std::size_t>(reader.integer()));
    for (Case& one : cases) {
        one.image = reader.integer();
        one.prompts.point_sets = reader.integer();
        one.prompts.mask_side = reader.integer();
        one.options.multimask_output = reader.integer() != 0;
        one.options.hq_token_only = reader.integer() != 0;
        one.options.return_logits = reader.integer() != 0;
        one.prompts.point_coords = reader.array<double>();
        one.prompts.point_labels = reader.array<std::int32_t>();
        one.prompts.boxes = reader.array<double>();
        one.prompts.mask_input = reader.array<float>();
        one.options.hq_token = reader.array<float>();
    }
    return cases;
}

template <class T>
void append(std::string& out, const T* values, std::int64_t count) {
    out.append(reinterpret_cast<const char*>(values), static_cast<std::size_t>(count) * sizeof(T));
}

std::string run(const std::vector<samhq::Image>& images, const std::vector<Case>& cases) {
    std::string out;
    for (const Case& one : cases) {
        const samhq::Result result = images.at(static_cast<std::size_t>(one.image)).predict(one.prompts, one.options);
        const std::int64_t pixels = result.height() * result.width(), side = result.low_res_size();
        const std::int64_t sizes[] = {result.objects(), result.masks_per_object(), result.height(), result.width(),
                                      side};
        append(out, sizes, 5);
        for (std::int64_t i = 0; i < result.objects() * result.masks_per_object(); ++i) {
            const std::int64_t object = i / result.masks_per_object(), index = i % result.masks_per_object();
            const float iou = result.iou_prediction(object, index);
            append(out, &iou, 1);
            append(out, result.low_res_logits(object, index), side * side);
            if (one.options.return_logits) {
                append(out, result.logits(object, index), pixels);
            } else {
                append(out, result.mask(object, index), pixels);
            }
        }
    }
    return out;
}

std::vector<samhq::Image> encode(const samhq::Bundle& bundle, const std::vector<Picture>& pictures) {
    std::vector<samhq::Image> images;
    for (const Picture& picture : pictures) images.push_back(bundle.encode(picture.pixels));
    return images;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 5) return 2;
    try {
        Reader reader(argv[2]);
        const std::vector<Picture> pictures = read_pictures(reader);
        const std::vector<Case> cases = read_cases(reader);
        const samhq::Bundle bundle(argv[1]);
        const std::vector<samhq::Image> images = encode(bundle, pictures);
        std::vector<std::string> results(static_cast<std::size_t>(std::stoi(argv[4])));
        std::vector<std::thread> threads;
        for (std::size_t i = 0; i < results.size(); ++i) {
            threads.emplace_back([&, i] {  // every other thread shares the images, too
                results[i] = i % 2 == 0 ? run(images, cases) : run(encode(bundle, pictures), cases);
            });
        }
        for (std::thread& thread : threads) thread.join();
        for (const std::string& result : results) {
            if (result != results.front()) return 3;
        }
        std::ofstream(argv[3], std::ios::binary) << results.front();
    } catch (const std::exception& error) {
        std::cerr << error.what() << '\n';
        return 1;
    }
    return 0;
}
