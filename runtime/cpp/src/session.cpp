#include "session.hpp"

#include <algorithm>
#include <sstream>

namespace samhq_core {
namespace {

struct Provider {
    const char* name;
    const char* ort_name;
};
constexpr Provider kProviders[] = {
    {"cpu", "CPUExecutionProvider"}, {"cuda", "CUDAExecutionProvider"}, {"tensorrt", "TensorrtExecutionProvider"}};

std::vector<std::string> split_providers(const std::string& list) {
    std::vector<std::string> names;
    std::stringstream text(list);
    for (std::string name; std::getline(text, name, ',');) {
        const bool known = std::any_of(std::begin(kProviders), std::end(kProviders),
                                       [&](const Provider& provider) { return name == provider.name; });
        if (!known)
            throw Error(SAMHQ_ERROR_CONFIG, concat("unknown provider '", name, "'; choose from cpu, cuda, tensorrt"));
        if (std::count(names.begin(), names.end(), name) > 0 || std::count(names.begin(), names.end(), "cpu") > 0) {
            throw Error(SAMHQ_ERROR_CONFIG, concat("providers '", list, "': each at most once, and cpu last"));
        }
        names.push_back(name);
    }
    if (names.empty()) throw Error(SAMHQ_ERROR_CONFIG, "no provider; choose from cpu, cuda, tensorrt");
    return names;
}

std::vector<std::string> available_providers(const Ort& ort) {
    char** names = nullptr;
    int count = 0;
    ort.check(ort.api->GetAvailableProviders(&names, &count), "listing providers");
    const std::vector<std::string> found(names, names + count);
    ort.check(ort.api->ReleaseAvailableProviders(names, count), "listing providers");
    return found;
}

void require_available(const Ort& ort, const std::string& name) {
    const std::vector<std::string> available = available_providers(ort);
    const auto* provider = std::find_if(std::begin(kProviders), std::end(kProviders),
                                        [&](const Provider& candidate) { return name == candidate.name; });
    if (std::count(available.begin(), available.end(), provider->ort_name) > 0) return;
    std::string has;
    for (const std::string& one : available) has += (has.empty() ? "" : ", ") + one;
    throw Error(SAMHQ_ERROR_UNAVAILABLE, concat("provider ", name, " is not in this ONNX Runtime ", ort.version,
                                                " (it has ", has, "); for NVIDIA GPUs take one of its GPU builds"));
}

void append_cuda(const Ort& ort, OrtSessionOptions* options, const std::string& device) {
    OrtCUDAProviderOptionsV2* cuda = nullptr;
    ort.check(ort.api->CreateCUDAProviderOptions(&cuda), "provider cuda", SAMHQ_ERROR_UNAVAILABLE);
    const auto owned = ort.own(cuda);
    const char* keys[] = {"device_id", "use_tf32"};  // float32 graphs compute in float32
    const char* values[] = {device.c_str(), "0"};
    ort.check(ort.api->UpdateCUDAProviderOptions(cuda, keys, values, 2), "provider cuda", SAMHQ_ERROR_CONFIG);
    ort.check(ort.api->SessionOptionsAppendExecutionProvider_CUDA_V2(options, cuda), "provider cuda",
              SAMHQ_ERROR_UNAVAILABLE);
}

void append_tensorrt(const Ort& ort, OrtSessionOptions* options, const std::string& device) {
    OrtTensorRTProviderOptionsV2* tensorrt = nullptr;
    ort.check(ort.api->CreateTensorRTProviderOptions(&tensorrt), "provider tensorrt", SAMHQ_ERROR_UNAVAILABLE);
    const auto owned = ort.own(tensorrt);
    const char* keys[] = {"device_id"};
    const char* values[] = {device.c_str()};
    ort.check(ort.api->UpdateTensorRTProviderOptions(tensorrt, keys, values, 1), "provider tensorrt",
              SAMHQ_ERROR_CONFIG);
    ort.check(ort.api->SessionOptionsAppendExecutionProvider_TensorRT_V2(options, tensorrt), "provider tensorrt",
              SAMHQ_ERROR_UNAVAILABLE);
}

OrtOwned<OrtSessionOptions> session_options(const Ort& ort, const SessionConfig& config) {
    OrtSessionOptions* options = nullptr;
    ort.check(ort.api->CreateSessionOptions(&options), "making session options");
    auto owned = ort.own(options);
    ort.check(ort.api->SetIntraOpNumThreads(options, config.threads), "setting threads", SAMHQ_ERROR_CONFIG);
    ort.check(ort.api->SetSessionLogSeverityLevel(options, ORT_LOGGING_LEVEL_ERROR), "setting the log level");
    ort.check(ort.api->DisableMemPattern(options), "setting memory patterns");  // as the Python runtime, and leaner
    const std::string device = std::to_string(config.device_id);
    for (const std::string& name : split_providers(config.providers)) {
        require_available(ort, name);
        if (name == "cuda") append_cuda(ort, options, device);
        if (name == "tensorrt") append_tensorrt(ort, options, device);
    }
    return owned;
}

const char* dtype_name(ONNXTensorElementDataType dtype) {
    switch (dtype) {
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT: return "float32";
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16: return "float16";
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64: return "int64";
        default: return "another dtype";
    }
}

std::string describe(const Ort& ort, const std::string& name, const OrtTypeInfo* type) {
    const OrtTensorTypeAndShapeInfo* tensor = nullptr;
    ort.check(ort.api->CastTypeInfoToTensorInfo(type, &tensor), "reading a graph");
    if (tensor == nullptr) return name + " is no tensor";
    ONNXTensorElementDataType dtype{};
    size_t rank = 0;
    ort.check(ort.api->GetTensorElementType(tensor, &dtype), "reading a graph");
    ort.check(ort.api->GetDimensionsCount(tensor, &rank), "reading a graph");
    std::vector<int64_t> sizes(rank);
    std::vector<const char*> names(rank);
    ort.check(ort.api->GetDimensions(tensor, sizes.data(), rank), "reading a graph");
    ort.check(ort.api->GetSymbolicDimensions(tensor, names.data(), rank), "reading a graph");
    TensorText text(name, dtype_name(dtype));
    for (size_t i = 0; i < rank; ++i) {
        if (sizes[i] < 0) {
            text.dim(std::string(names[i]));
        } else {
            text.dim(sizes[i]);
        }
    }
    return text.text();
}

// The three kinds of tensors of a session are listed by functions of the same signatures.
struct Listing {
    decltype(OrtApi::SessionGetInputCount) count;
    decltype(OrtApi::SessionGetInputName) name;
    decltype(OrtApi::SessionGetInputTypeInfo) type;
};

std::vector<std::string> describe_all(const Ort& ort, const OrtSession* session, const Listing& list) {
    OrtAllocator* allocator = nullptr;
    ort.check(ort.api->GetAllocatorWithDefaultOptions(&allocator), "reading a graph");
    size_t count = 0;
    ort.check(list.count(session, &count), "reading a graph");
    std::vector<std::string> tensors;
    for (size_t i = 0; i < count; ++i) {
        char* raw_name = nullptr;
        ort.check(list.name(session, i, allocator, &raw_name), "reading a graph");
        const std::string name = raw_name;
        ort.check(ort.api->AllocatorFree(allocator, raw_name), "reading a graph");
        OrtTypeInfo* type = nullptr;
        ort.check(list.type(session, i, &type), "reading a graph");
        const auto owned = ort.own(type);
        tensors.push_back(describe(ort, name, type));
    }
    return tensors;
}

std::string joined(const std::vector<std::string>& items) {
    std::string text;
    for (const std::string& item : items) text += (text.empty() ? "" : ", ") + item;
    return text;
}

}  // namespace

Session::Session(const Ort& ort, const std::filesystem::path& file, const GraphSpec& spec, const SessionConfig& config)
    : ort_(ort), name_(spec.name) {
    for (const std::string& output : spec.outputs) outputs_.push_back(output.substr(0, output.find(' ')));
    const auto options = session_options(ort, config);
    OrtSession* session = nullptr;
    ort.check(ort.api->CreateSession(ort.env, file.c_str(), options.get(), &session), file.filename().string());
    session_ = ort.own(session);
    require_contract(file.filename().string(), spec);
}

void Session::require_contract(const std::string& file, const GraphSpec& spec) const {
    const OrtApi& api = *ort_.api;
    const struct {
        const char* kind;
        std::vector<std::string> expected;
        Listing list;
    } checks[] = {
        {"inputs", spec.inputs, {api.SessionGetInputCount, api.SessionGetInputName, api.SessionGetInputTypeInfo}},
        {"optional inputs",
         spec.optional_inputs,
         {api.SessionGetOverridableInitializerCount, api.SessionGetOverridableInitializerName,
          api.SessionGetOverridableInitializerTypeInfo}},
        {"outputs", spec.outputs, {api.SessionGetOutputCount, api.SessionGetOutputName, api.SessionGetOutputTypeInfo}},
    };
    for (const auto& check : checks) {
        std::vector<std::string> got = describe_all(ort_, session_.get(), check.list), expected = check.expected;
        std::sort(got.begin(), got.end());
        std::sort(expected.begin(), expected.end());
        if (got == expected) continue;
        throw Error(SAMHQ_ERROR_CONTRACT, concat(file, ": ", check.kind, " are [", joined(got), "], expected [",
                                                 joined(expected), "]; export the bundle again"));
    }
}

std::vector<Tensor> Session::run(const std::vector<Feed>& feeds) const {
    std::vector<const char*> input_names, output_names;
    std::vector<const OrtValue*> inputs;
    for (const Feed& feed : feeds) {
        input_names.push_back(feed.name);
        inputs.push_back(feed.value);
    }
    for (const std::string& name : outputs_) output_names.push_back(name.c_str());
    std::vector<OrtValue*> outputs(outputs_.size());
    ort_.check(ort_.api->Run(session_.get(), nullptr, input_names.data(), inputs.data(), inputs.size(),
                             output_names.data(), output_names.size(), outputs.data()),
               concat("running ", name_));
    std::vector<Tensor> owned;
    owned.reserve(outputs.size());
    for (OrtValue* output : outputs) owned.push_back(ort_.own(output));
    return owned;
}

}  // namespace samhq_core
