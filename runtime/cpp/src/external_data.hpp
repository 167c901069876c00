// Which files an ONNX graph takes weights from: ONNX Runtime loads whatever a graph names.
#pragma once

#include <filesystem>
#include <set>
#include <string>

namespace samhq_core {

// The `location` of every tensor that is stored outside the file. Throws BUNDLE_INVALID for what is no protobuf, what
// parsers may read differently, and graphs compiled for one device.
std::set<std::string> external_files(const std::filesystem::path& graph);

}  // namespace samhq_core
