#include "ort.hpp"

#include <dlfcn.h>

#include <cstdlib>
#include <map>
#include <mutex>

namespace samhq_core {
namespace {

// The oldest API with every call made here, and the oldest ONNX Runtime this project supports: 1.18.
constexpr uint32_t kOrtApiVersion = 18;
static_assert(ORT_API_VERSION >= kOrtApiVersion, "ONNX Runtime's headers are too old: 1.18 or newer is needed");

[[noreturn]] void unavailable(const std::string& message) { throw Error(SAMHQ_ERROR_UNAVAILABLE, message); }

// What the loader says of a library; it begins with the name, but not where another library is what it misses.
std::string without_name(const std::string& message, const std::string& name) {
    const std::string beginning = name + ": ";
    return message.rfind(beginning, 0) == 0 ? message.substr(beginning.size()) : message;
}

void* open_library(const std::string& path) {
    const char* from_environment = std::getenv("SAMHQ_ONNXRUNTIME");
    std::vector<std::string> candidates = {"libonnxruntime.so.1", "libonnxruntime.so"};
    if (!path.empty()) {
        candidates = {path};
    } else if (from_environment != nullptr && *from_environment != '\0') {
        candidates = {from_environment};
    }
    std::string tried;
    for (const std::string& name : candidates) {
        if (void* library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL)) return library;
        tried += concat(tried.empty() ? "" : "; ", name, ": ", without_name(dlerror(), name));
    }
    unavailable(concat("ONNX Runtime cannot be loaded (", tried, "); set samhq_bundle_options.onnxruntime or the ",
                       "environment variable SAMHQ_ONNXRUNTIME to the path of libonnxruntime.so"));
}

std::unique_ptr<Ort> start(void* library) {
    using GetBase = const OrtApiBase* (*)();
    const auto get_base = reinterpret_cast<GetBase>(dlsym(library, "OrtGetApiBase"));
    if (get_base == nullptr) unavailable("the library that was loaded as ONNX Runtime has no OrtGetApiBase");
    auto ort = std::make_unique<Ort>();
    ort->version = get_base()->GetVersionString();
    ort->api = get_base()->GetApi(kOrtApiVersion);
    if (ort->api == nullptr) unavailable(concat("ONNX Runtime ", ort->version, " is too old; expected 1.18 or newer"));
    ort->check(ort->api->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "samhq", &ort->env), "starting ONNX Runtime");
    return ort;
}

}  // namespace

const Ort& Ort::load(const std::string& path) {
    static std::mutex mutex;
    static auto& started = *new std::map<void*, std::unique_ptr<Ort>>;  // never destroyed, as the libraries are not
    const std::lock_guard<std::mutex> lock(mutex);
    void* library = open_library(path);
    std::unique_ptr<Ort>& ort = started[library];
    if (!ort) ort = start(library);
    return *ort;
}

void Ort::check(OrtStatus* status, const std::string& doing, samhq_status kind) const {
    if (status == nullptr) return;
    const OrtOwned<OrtStatus> owned = own(status);
    const std::string message = api->GetErrorMessage(status);
    throw Error(kind, concat(doing, ": ONNX Runtime ", version, ": ", message.substr(0, message.find('\n'))));
}

Tensor Ort::tensor(const float* data, const std::vector<int64_t>& shape) const {
    return wrap(data, sizeof *data, shape, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT);
}

Tensor Ort::tensor(const int64_t* data, const std::vector<int64_t>& shape) const {
    return wrap(data, sizeof *data, shape, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64);
}

Tensor Ort::wrap(const void* data, size_t item_size, const std::vector<int64_t>& shape,
                 ONNXTensorElementDataType dtype) const {
    size_t bytes = item_size;
    for (const int64_t dim : shape) bytes *= static_cast<size_t>(dim);
    OrtMemoryInfo* memory = nullptr;
    check(api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory), "naming the CPU's memory");
    const OrtOwned<OrtMemoryInfo> owned = own(memory);
    OrtValue* value = nullptr;
    check(api->CreateTensorWithDataAsOrtValue(memory, const_cast<void*>(data), bytes, shape.data(), shape.size(), dtype,
                                              &value),
          "making a tensor");
    return own(value);
}

Tensor Ort::new_tensor(const std::vector<int64_t>& shape, ONNXTensorElementDataType dtype) const {
    OrtAllocator* allocator = nullptr;
    check(api->GetAllocatorWithDefaultOptions(&allocator), "making a tensor");
    OrtValue* value = nullptr;
    check(api->CreateTensorAsOrtValue(allocator, shape.data(), shape.size(), dtype, &value), "making a tensor");
    return own(value);
}

std::vector<int64_t> Ort::shape(const OrtValue* value) const {
    OrtTensorTypeAndShapeInfo* info = nullptr;
    check(api->GetTensorTypeAndShape(value, &info), "reading a tensor");
    const auto owned = own(info);
    size_t rank = 0;
    check(api->GetDimensionsCount(info, &rank), "reading a tensor");
    std::vector<int64_t> dims(rank);
    check(api->GetDimensions(info, dims.data(), rank), "reading a tensor");
    return dims;
}

ONNXTensorElementDataType Ort::dtype(const OrtValue* value) const {
    OrtTensorTypeAndShapeInfo* info = nullptr;
    check(api->GetTensorTypeAndShape(value, &info), "reading a tensor");
    const auto owned = own(info);
    ONNXTensorElementDataType type{};
    check(api->GetTensorElementType(info, &type), "reading a tensor");
    return type;
}

void* Ort::data(const OrtValue* value) const {
    void* data = nullptr;
    check(api->GetTensorMutableData(const_cast<OrtValue*>(value), &data), "reading a tensor");
    return data;
}

}  // namespace samhq_core
