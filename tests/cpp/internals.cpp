// internals resize CASES BYTES FLOATS | sha256 FILE | fuzz MANIFEST ROUNDS | manifests BUNDLE FILES | external FILES |
// rle MASKS | halves FLOATS OUTPUT | options BUNDLE [PROVIDER.OPTION=VALUE...] |
// providers BUNDLE PROVIDERS [PROVIDER.OPTION=VALUE...] | copy: what lies below the C interface, for
// test_cpp_internals.py.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>

#include "error.hpp"
#include "external_data.hpp"
#include "half.hpp"
#include "host_copy.hpp"
#include "manifest.hpp"
#include "resize.hpp"
#include "rle.hpp"
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

// Masks are two int64 (height, width), then the pixels; a line for each.
int rle(const char* masks) {
    const std::string content = read(masks);
    for (std::size_t at = 0; at < content.size();) {
        int64_t size[2];
        content.copy(reinterpret_cast<char*>(size), sizeof size, at);
        at += sizeof size;
        const auto* mask = reinterpret_cast<const uint8_t*>(content.data()) + at;
        std::cout << samhq_core::rle_counts(mask, {size[0], size[1]}) << '\n';
        at += static_cast<std::size_t>(size[0] * size[1]);
    }
    return 0;
}

// The floats of a file as float16, then every float16 as a float.
int halves(const char* floats, const char* output) {
    const std::string content = read(floats);
    std::ofstream out(output, std::ios::binary);
    for (std::size_t at = 0; at < content.size(); at += sizeof(float)) {
        float value = 0;
        content.copy(reinterpret_cast<char*>(&value), sizeof value, at);
        const uint16_t half = samhq_core::to_half(value);
        out.write(reinterpret_cast<const char*>(&half), sizeof half);
    }
    for (unsigned half = 0; half < 1U << 16; ++half) {
        const float value = samhq_core::from_half(static_cast<uint16_t>(half));
        out.write(reinterpret_cast<const char*>(&value), sizeof value);
    }
    return 0;
}

// "GRAPH PROVIDER OPTION=VALUE", a line each, of the GPU providers; or the status of refusing them.
int options(const char* bundle, char** texts, char** end) {
    const int device_id = 1;
    const samhq_core::Manifest manifest = samhq_core::load_manifest(bundle);
    try {
        for (const samhq_core::GraphEntry* graph : {&manifest.image_encoder, &manifest.mask_decoder}) {
            for (const auto& choice : samhq_core::provider_choices("tensorrt,cuda", {texts, end})) {
                for (const auto& [name, value] : samhq_core::options_of(choice, graph->spec, device_id)) {
                    std::cout << graph->spec.name << ' ' << choice.name << ' ' << name << '=' << value << '\n';
                }
            }
        }
    } catch (const Error& error) {
        std::cout << samhq_status_name(error.status()) << ' ' << error.what() << '\n';
    }
    return 0;
}

// What a list of providers and its options lead to: the files of the graphs, and what copies to the host are made with.
int providers(const char* bundle, const char* list, char** texts, char** end) {
    const samhq_core::SessionConfig config{samhq_core::provider_choices(list, {texts, end}), 7, 1};
    const samhq_core::Manifest manifest = samhq_core::load_manifest(bundle);
    for (const samhq_core::GraphEntry* graph : {&manifest.image_encoder, &manifest.mask_decoder}) {
        std::cout << graph->file_for(config.cpu_only()) << '\n';
    }
    const samhq_core::SessionConfig small = samhq_core::beside(config);
    std::cout << "threads=" << small.threads << '\n';
    for (const samhq_core::ProviderChoice& choice : small.providers) {
        std::cout << choice.name << '\n';
        for (const auto& [name, value] : samhq_core::options_of(choice, {"copy", {}, {}, {}}, small.device_id)) {
            std::cout << name << '=' << value << '\n';
        }
    }
    return 0;
}

// The way of tensors from a device to the host, with the host as the device.
int copy() {
    const samhq_core::Ort& ort = samhq_core::Ort::load("");
    std::vector<samhq_core::Tensor> tensors;
    std::vector<const OrtValue*> given;
    for (const std::vector<int64_t>& shape : {std::vector<int64_t>{2, 3}, {1, 2, 1, 3}}) {
        tensors.push_back(ort.new_tensor(shape, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16));
        given.push_back(tensors.back().get());
        auto* values = static_cast<uint16_t*>(ort.data(given.back()));
        for (uint16_t i = 0; i < 6; ++i) values[i] = static_cast<uint16_t>(10 * tensors.size() + i);
    }
    const std::vector<samhq_core::Tensor> copies = samhq_core::copy_to_host(ort, given, {});
    if (copies.size() != given.size()) return 3;
    for (std::size_t i = 0; i < given.size(); ++i) {
        const OrtValue* copied = copies[i].get();
        const auto* values = static_cast<uint16_t*>(ort.data(given[i]));
        const bool apart = ort.data(copied) != values && samhq_core::on_host(ort, copied);
        const bool same = std::equal(values, values + 6, static_cast<uint16_t*>(ort.data(copied)));
        if (!apart || !same || ort.shape(copied) != ort.shape(given[i])) return 4;
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
    if (what == "rle" && argc == 3) return rle(argv[2]);
    if (what == "halves" && argc == 4) return halves(argv[2], argv[3]);
    if (what == "options" && argc >= 3) return options(argv[2], argv + 3, argv + argc);
    if (what == "providers" && argc >= 4) return providers(argv[2], argv[3], argv + 4, argv + argc);
    if (what == "copy" && argc == 2) return copy();
    if (what == "fuzz" && argc == 4) return fuzz(argv[2], std::stoi(argv[3]));
    return 2;
}
