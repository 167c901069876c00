// extras save BUNDLE PIXELS HEIGHT WIDTH FORMAT OUTPUT FLOAT16 | load BUNDLE THRESHOLD FILES | tokens BUNDLE FILES |
// cancel BUNDLE | threads BUNDLE COUNT: embeddings, orders of colours, HQ tokens, run lengths, cancellation, for
// test_cpp_extras.py and tsan.sh.
#include <atomic>
#include <fstream>
#include <iostream>
#include <iterator>
#include <samhq/samhq.hpp>
#include <sstream>
#include <thread>

namespace {

samhq::Options single_threaded() {
    samhq::Options options;
    options.threads = 1;
    return options;
}

int save(char** argv) {
    std::ifstream file(argv[1], std::ios::binary);
    const std::string bytes(std::istreambuf_iterator<char>(file), {});
    samhq::Pixels pixels;
    pixels.rgb = reinterpret_cast<const std::uint8_t*>(bytes.data());
    pixels.height = std::stoi(argv[2]);
    pixels.width = std::stoi(argv[3]);
    pixels.format = static_cast<samhq_pixel_format>(std::stoi(argv[4]));
    samhq::Bundle(argv[0], single_threaded()).encode(pixels).save(argv[5], std::stoi(argv[6]) != 0);
    return 0;
}

// A line for each file: the status, and what is `read` of it, or what went wrong.
template <class Read>
void each_file(char** files, char** end, const Read& read) {
    for (; files != end; ++files) {
        try {
            const std::string text = read(*files);
            std::cout << "SAMHQ_OK " << text << '\n';
        } catch (const samhq::Error& error) {
            std::cout << samhq_status_name(error.status()) << ' ' << error.what() << '\n';
        }
    }
}

// The mask of a box.
int load(char** argv, char** end) {
    const samhq::Bundle bundle(argv[0], single_threaded());
    samhq::PredictOptions options;
    if (std::string(argv[1]) != "default") options.mask_threshold = std::stod(argv[1]);
    each_file(argv + 2, end, [&](const char* file) {
        return std::string(bundle.load(file).predict(samhq::Prompts().box(5, 6, 40, 50), options).rle(0));
    });
    return 0;
}

// The first and the last number.
int tokens(char** argv, char** end) {
    const samhq::Bundle bundle(*argv, single_threaded());
    each_file(argv + 1, end, [&](const char* file) {
        const std::vector<float> token = bundle.read_hq_token(file);
        std::ostringstream text;
        text.precision(9);
        text << token.front() << ' ' << token.back();
        return text.str();
    });
    return 0;
}

template <class Call>
bool is_cancelled(const Call& call) {
    try {
        call();
    } catch (const samhq::Error& error) {
        return error.status() == SAMHQ_ERROR_CANCELLED;
    }
    return false;
}

// Before a call, and while it runs; the bundle and its images stay as good as they were.
int cancel(char** argv) {
    const samhq::Bundle bundle(argv[0], single_threaded());
    const std::vector<std::uint8_t> pixels(64 * 64 * 3, 90);
    const samhq::Image image = bundle.encode({pixels.data(), 64, 64});
    samhq::Prompts objects;
    for (int i = 0; i < 2000; ++i) objects.box(5, 6, 40, 50);  // more than can be done before they are cancelled

    samhq::Cancellation before;
    before.request();
    samhq::PredictOptions options;
    options.cancellation = &before;
    if (!is_cancelled([&] { image.predict(objects, options); })) return 3;
    if (!is_cancelled([&] { bundle.encode({pixels.data(), 64, 64}, &before); })) return 4;

    samhq::Cancellation meanwhile;
    options.cancellation = &meanwhile;
    std::atomic<bool> cancelled{false};
    std::thread predicting([&] { cancelled = is_cancelled([&] { image.predict(objects, options); }); });
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    meanwhile.request();
    predicting.join();
    if (!cancelled) return 5;

    samhq::Cancellation never;
    options.cancellation = &never;
    return image.predict(samhq::Prompts().box(5, 6, 40, 50), options).objects() == 1 ? 0 : 6;
}

// Threads that predict on one image, and its run lengths, and on images of their own; all have the same mask.
int threads(const char* path, int count) {
    const samhq::Bundle bundle(path, single_threaded());
    const std::vector<std::uint8_t> pixels(64 * 64 * 3, 90);
    const samhq::Image shared = bundle.encode({pixels.data(), 64, 64});
    const samhq::Result once = shared.predict(samhq::Prompts().box(5, 6, 40, 50));
    std::vector<std::string> masks(static_cast<std::size_t>(count));
    std::vector<std::thread> running;
    for (std::string& mask : masks) {
        running.emplace_back([&] {
            const samhq::Image own = bundle.encode({pixels.data(), 64, 64});
            mask = once.rle(0);
            for (const samhq::Image* image : {&shared, &own}) {
                if (image->predict(samhq::Prompts().box(5, 6, 40, 50)).rle(0) != mask) mask = "another";
            }
        });
    }
    for (std::thread& thread : running) thread.join();
    for (const std::string& mask : masks) {
        if (mask != once.rle(0)) return 3;
    }
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    const std::string what = argc > 1 ? argv[1] : "";
    try {
        if (what == "save" && argc == 9) return save(argv + 2);
        if (what == "load" && argc >= 4) return load(argv + 2, argv + argc);
        if (what == "tokens" && argc >= 3) return tokens(argv + 2, argv + argc);
        if (what == "threads" && argc == 4) return threads(argv[2], std::stoi(argv[3]));
        if (what == "cancel" && argc == 3) return cancel(argv + 2);
    } catch (const std::exception& error) {
        std::cerr << error.what() << '\n';
        return 1;
    }
    return 2;
}
