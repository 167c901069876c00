// segment BUNDLE IMAGE.png X0 Y0 X1 Y1 MASK.png: the mask of the object in a box, in C++ with libpng.
#include <png.h>

#include <cstdlib>
#include <iostream>
#include <samhq/samhq.hpp>

namespace {

struct Picture {
    png_image header{};
    std::vector<std::uint8_t> rgb;
};

Picture read_png(const char* path) {
    Picture picture;
    picture.header.version = PNG_IMAGE_VERSION;
    if (png_image_begin_read_from_file(&picture.header, path) == 0) {
        throw std::runtime_error(std::string(path) + ": " + picture.header.message);
    }
    picture.header.format = PNG_FORMAT_RGB;
    picture.rgb.resize(PNG_IMAGE_SIZE(picture.header));
    const png_color black{0, 0, 0};  // behind transparent pixels
    if (png_image_finish_read(&picture.header, &black, picture.rgb.data(), 0, nullptr) == 0) {
        throw std::runtime_error(std::string(path) + ": " + picture.header.message);
    }
    return picture;
}

void write_mask(const char* path, const samhq::Result& result) {
    png_image header{};
    header.version = PNG_IMAGE_VERSION;
    header.width = static_cast<png_uint_32>(result.width());
    header.height = static_cast<png_uint_32>(result.height());
    header.format = PNG_FORMAT_GRAY;
    std::vector<std::uint8_t> grey(result.mask(0), result.mask(0) + result.height() * result.width());
    for (std::uint8_t& pixel : grey) pixel = pixel != 0 ? 255 : 0;
    if (png_image_write_to_file(&header, path, 0, grey.data(), 0, nullptr) == 0) {
        throw std::runtime_error(std::string(path) + ": " + header.message);
    }
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 8) {
        std::cerr << "usage: segment BUNDLE IMAGE.png X0 Y0 X1 Y1 MASK.png\n";
        return 2;
    }
    try {
        const samhq::Bundle bundle(argv[1]);
        const Picture picture = read_png(argv[2]);
        const samhq::Image image = bundle.encode({picture.rgb.data(), picture.header.height, picture.header.width});
        const samhq::Prompts prompts =
            samhq::Prompts().box(std::atof(argv[3]), std::atof(argv[4]), std::atof(argv[5]), std::atof(argv[6]));
        const samhq::Result result = image.predict(prompts);
        write_mask(argv[7], result);
        std::cout << argv[7] << ": predicted IoU " << result.iou_prediction(0) << '\n';
    } catch (const std::exception& error) {
        std::cerr << "segment: " << error.what() << '\n';
        return 1;
    }
    return 0;
}
