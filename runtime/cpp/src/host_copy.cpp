#include "host_copy.hpp"

#include <initializer_list>

#include "session.hpp"

namespace samhq_core {
namespace {

// Fields of protobuf messages, all of them short.
std::string field(int number, int value) { return {static_cast<char>(number << 3), static_cast<char>(value)}; }
std::string field(int number, const std::string& content) {
    return std::string{static_cast<char>((number << 3) | 2), static_cast<char>(content.size())} + content;
}

// An ONNX model (onnx.proto): y = Identity(x), tensors of any shape.
std::string identity_model(ONNXTensorElementDataType dtype) {
    const std::string type = field(2, field(1, field(1, static_cast<int>(dtype))));
    const std::string node = field(1, "x") + field(2, "y") + field(4, "Identity");
    const std::string graph =
        field(1, node) + field(2, "copy") + field(11, field(1, "x") + type) + field(12, field(1, "y") + type);
    return field(1, 8) + field(7, graph) + field(8, field(2, 13));
}

}  // namespace

bool on_host(const Ort& ort, const OrtValue* value) {
    const OrtMemoryInfo* memory = nullptr;
    ort.check(ort.api->GetTensorMemoryInfo(value, &memory), "reading a tensor");
    OrtMemoryInfoDeviceType device{};
    ort.api->MemoryInfoGetDeviceType(memory, &device);
    return device == OrtMemoryInfoDeviceType_CPU;
}

std::vector<Tensor> copy_to_host(const Ort& ort, const std::vector<const OrtValue*>& values,
                                 const SessionConfig& config) {
    const char* doing = "copying a tensor to the host";
    const std::string model = identity_model(ort.dtype(values.front()));
    const auto options = session_options(ort, {"copy", {}, {}, {}}, beside(config));
    OrtSession* made = nullptr;
    ort.check(ort.api->CreateSessionFromArray(ort.env, model.data(), model.size(), options.get(), &made), doing);
    const auto session = ort.own(made);
    const char *input = "x", *output = "y";
    std::vector<Tensor> copies;
    for (const OrtValue* value : values) {
        OrtValue* copy = nullptr;
        ort.check(ort.api->Run(made, nullptr, &input, &value, 1, &output, 1, &copy), doing);
        copies.push_back(ort.own(copy));
    }
    return copies;
}

}  // namespace samhq_core
