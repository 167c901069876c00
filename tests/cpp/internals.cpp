// internals resize CASES BYTES FLOATS | sha256 FILE | fuzz MANIFEST ROUNDS | manifests BUNDLE FILES | external FILES: what lies below the C interface, for test_cpp.py.
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>

#include "error.hpp"
#include "external_data.hpp"
#include "manifest.hpp"
#include "resize.hpp"
#include "sha256.hpp"

namespace {

using samhq_core::Error;

std::string read(const char* path) {
    std::ifstream file(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
}

// Cases are six int64 (height, width, row stride, target height, target width, bytes), then the pixels.
int resize(const char* cases, const char* output, const char* output_of_floats) {
    const std::string content = read(cases);
    std::ofstream out(output, std::ios::binary), floats(output_of_floats, std::ios::binary);
    for (std::size_t at = 0; at < content.size();) {
        int64_t head[6];
        content.copy(reinterpret_cast<char*>(head), sizeof head, at);
        at += sizeof head;
        const std::vector<uint8_t> pixels(content.begin() + static_cast<std::ptrdiff_t>(at),
                                          content.begin() + static_cast<std::ptrdiff_t>(at) + head[5]);
        at += pixels.size();
        const samhq_core::ImageView image{pixels.data(), {head[0], head[1]}, head[2]};
        const std::vector<uint8_t> bytes = samhq_core::resize_bytes(image, {head[3], head[4]});
        const std::vector<float> values = samhq_core::resize_floats(image, {head[3], head[4]});
        out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
        floats.write(reinterpret_cast<const char*>(values.data()),
                     static_cast<std::streamsize>(values.size() * sizeof(float)));
    }
    return 0;
}

// The hash of every prefix of the file, fed in two pieces, with and without the processor's instructions.
int sha256(const char* path) {
    const std::string content = read(path);
    const auto* bytes = reinterpret_cast<const uint8_t*>(content.data());
    for (std::size_t size = 0; size <= content.size(); ++size) {
        for (const bool instructions : {false, true}) {
            samhq_core::Sha256 digest(instructions);
            digest.update(bytes, size / 3);
            digest.update(bytes + size / 3, size - size / 3);
            std::cout << digest.hex_digest() << '\n';
        }
    }
    return 0;
}

// Broken copies of a manifest either parse or fail with a status of their own, and nothing else happens.
int fuzz(const char* path, int rounds) {
    const std::string original = read(path);
    std::mt19937 random(7);
    const std::string pieces[] = {"{",       "}",     "[", "]",    "\"",   ",",      ":", "\\",
                                  "\\ud800", "1e999", "-", "null", "\xff", "\"a\":", ""};
    int parsed = 0;
    for (int round = 0; round < rounds; ++round) {
        std::string text = original;
        for (unsigned change = random() % 3; change < 3; ++change) {
            const std::size_t at = random() % (text.size() + 1), length = random() % 9;
            text.replace(at, random() % 4 == 0 ? text.size() : length, pieces[random() % std::size(pieces)]);
        }
        try {
            samhq_core::parse_manifest(text);
            ++parsed;
        } catch (const Error& error) {
            if (error.status() < SAMHQ_ERROR_BUNDLE_INVALID || error.status() > SAMHQ_ERROR_CONTRACT) return 3;
        }
    }
    std::cout << parsed << '\n';
    return 0;
}

// One line a file, put into the bundle as its manifest: the status of loading it.
int manifests(const std::filesystem::path& bundle, char** paths, char** end) {
    for (; paths != end; ++paths) {
        samhq_status status = SAMHQ_OK;
        std::filesystem::copy_file(*paths, bundle / "manifest.json", std::filesystem::copy_options::overwrite_existing);
        try {
            samhq_core::load_manifest(bundle);
        } catch (const Error& error) {
            status = error.status();
        }
        std::cout << samhq_status_name(status) << '\n';
    }
    return 0;
}

// One line a file: what it takes weights from, or that it is refused.
int external(char** paths, char** end) {
    for (; paths != end; ++paths) {
        std::string line;
        try {
            for (const std::string& file : samhq_core::external_files(*paths)) line += (line.empty() ? "" : " ") + file;
        } catch (const samhq_core::Error&) {
            line = "refused";
        }
        std::cout << line << "\n";
    }
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    const std::string what = argc > 1 ? argv[1] : "";
    if (what == "resize" && argc == 5) return resize(argv[2], argv[3], argv[4]);
    if (what == "sha256" && argc == 3) return sha256(argv[2]);
    if (what == "external" && argc >= 2) return external(argv + 2, argv + argc);
    if (what == "manifests" && argc >= 3) return manifests(argv[2], argv + 3, argv + argc);
    if (what == "fuzz" && argc == 4) return fuzz(argv[2], std::stoi(argv[3]));
    return 2;
}
