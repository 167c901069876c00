// `.safetensors` files: eight bytes with the length of a header, the header as JSON, the tensors one behind the other
// (https://github.com/huggingface/safetensors#format).
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "error.hpp"

namespace samhq_core {

struct StoredTensor {
    std::string dtype;  // "F32", "F16"...
    std::vector<int64_t> shape;
    uint64_t begin = 0, end = 0;  // in the data behind the header
};

// What a file is read for, as errors say it.
struct Purpose {
    samhq_status status;
    const char* name;  // "an embedding"
    const char* cure;
};

class SafetensorsFile {
  public:
    // Throws the purpose's status for what is missing, unreadable, or no such file, of its size.
    SafetensorsFile(const std::filesystem::path& path, const Purpose& purpose);

    const std::map<std::string, std::string>& metadata() const { return metadata_; }
    const std::map<std::string, StoredTensor>& tensors() const { return tensors_; }
    std::vector<uint8_t> read(const StoredTensor& tensor);
    [[noreturn]] void refuse(const std::string& why) const;

  private:
    uint64_t read_header(const std::string& text);  // where the last tensor ends

    std::filesystem::path path_;
    Purpose purpose_;
    std::ifstream file_;
    uint64_t start_ = 0;
    std::map<std::string, std::string> metadata_;
    std::map<std::string, StoredTensor> tensors_;
};

}  // namespace samhq_core
