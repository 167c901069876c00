#include "whole_file.hpp"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <random>

namespace samhq_core {
namespace {

constexpr size_t kKeptName = 32, kLongestSuffix = 16;

std::string random_hex() {
    constexpr char kDigits[] = "0123456789abcdef";
    std::random_device random;
    std::string text;
    for (int i = 0; i < 32; ++i) text += kDigits[random() % 16];
    return text;
}

}  // namespace

WholeFile::WholeFile(const std::filesystem::path& path, samhq_status status) : path_(path), status_(status) {
    const std::string name = path.filename().string().substr(0, kKeptName);
    const std::string suffix = path.extension().string().size() > kLongestSuffix ? "" : path.extension().string();
    partial_ = path.parent_path() / concat(".", name, ".", getpid(), "-", random_hex(), ".partial", suffix);
    file_.reset(std::fopen(partial_.c_str(), "wbx"));
    if (!file_) fail();
}

WholeFile::~WholeFile() {
    file_.reset();
    std::error_code code;
    std::filesystem::remove(partial_, code);
}

void WholeFile::write(const void* data, size_t size) {
    if (std::fwrite(data, 1, size, file_.get()) != size) fail();
}

void WholeFile::finish() {
    if (std::fclose(file_.release()) != 0) fail();
    if (std::rename(partial_.c_str(), path_.c_str()) != 0) fail();
}

void WholeFile::fail() const {
    const std::string why = std::strerror(errno);
    throw Error(status_, concat(path_.string(), ": cannot be written (", why, ")"));
}

}  // namespace samhq_core
