// A file that is written whole or not at all.
#pragma once

#include <cstdio>
#include <filesystem>
#include <memory>

#include "error.hpp"

namespace samhq_core {

// Filled beside its place, under a name that samhq_runtime/files.py sweeps where a process was killed; an object that
// goes before `finish` leaves nothing. What fails is thrown as `status`.
class WholeFile {
  public:
    WholeFile(const std::filesystem::path& path, samhq_status status);
    ~WholeFile();
    WholeFile(const WholeFile&) = delete;
    WholeFile& operator=(const WholeFile&) = delete;

    void write(const void* data, size_t size);
    void finish();  // put it into its place; a file of that name is replaced

  private:
    [[noreturn]] void fail() const;

    std::filesystem::path path_, partial_;
    samhq_status status_;
    std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_{nullptr, std::fclose};
};

}  // namespace samhq_core
