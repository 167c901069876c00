#include "session.hpp"

#include <algorithm>

namespace samhq_core {
namespace {

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

}  // namespace

OrtOwned<OrtSessionOptions> session_options(const Ort& ort, const GraphSpec& spec, const SessionConfig& config) {
    OrtSessionOptions* options = nullptr;
    ort.check(ort.api->CreateSessionOptions(&options), "making session options");
    auto owned = ort.own(options);
    ort.check(ort.api->SetIntraOpNumThreads(options, config.threads), "setting threads", SAMHQ_ERROR_CONFIG);
    ort.check(ort.api->SetSessionLogSeverityLevel(options, ORT_LOGGING_LEVEL_ERROR), "setting the log level");
    ort.check(ort.api->DisableMemPattern(options), "setting memory patterns");  // as the Python runtime, and leaner
    for (const ProviderChoice& choice : config.providers) {
        append_provider(ort, options, choice.name, options_of(choice, spec, config.device_id));
    }
    return owned;
}

Session::Session(const Ort& ort, const std::filesystem::path& file, const GraphSpec& spec, const SessionConfig& config)
    : ort_(ort), name_(spec.name) {
    for (const std::string& output : spec.outputs) outputs_.push_back(output.substr(0, output.find(' ')));
    const auto options = session_options(ort, spec, config);
    OrtSession* session = nullptr;
    ort.check(ort.api->CreateSession(ort.env, file.c_str(), options.get(), &session), file.filename().string());
    session_ = ort.own(session);
    require_contract(file.filename().string(), spec);
    OrtMemoryInfo* memory = nullptr;
    const char* device = memory_of(config.providers.front().name);
    ort.check(ort.api->CreateMemoryInfo(device, OrtDeviceAllocator, config.device_id, OrtMemTypeDefault, &memory),
              "naming the device's memory");
    memory_ = ort.own(memory);
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

std::vector<Tensor> Session::run(const std::vector<Feed>& feeds, const Cancellation* cancellation) const {
    std::vector<const char*> input_names, output_names;
    std::vector<const OrtValue*> inputs;
    for (const Feed& feed : feeds) {
        input_names.push_back(feed.name);
        inputs.push_back(feed.value);
    }
    for (const std::string& name : outputs_) output_names.push_back(name.c_str());
    std::vector<OrtValue*> outputs(outputs_.size());
    const CancellableRun run(ort_, cancellation);
    OrtStatus* status = ort_.api->Run(session_.get(), run.options(), input_names.data(), inputs.data(), inputs.size(),
                                      output_names.data(), output_names.size(), outputs.data());
    std::vector<Tensor> owned = owned_values(outputs.data(), outputs.size());
    run.check(status, concat("running ", name_));
    return owned;
}

std::vector<Tensor> Session::keep(const std::vector<Feed>& feeds, const Cancellation* cancellation) const {
    const std::string doing = concat("running ", name_);
    OrtIoBinding* bound = nullptr;
    ort_.check(ort_.api->CreateIoBinding(session_.get(), &bound), doing);
    const auto binding = ort_.own(bound);
    for (const Feed& feed : feeds) ort_.check(ort_.api->BindInput(bound, feed.name, feed.value), doing);
    for (const std::string& name : outputs_) {
        ort_.check(ort_.api->BindOutputToDevice(bound, name.c_str(), memory_.get()), doing);
    }
    const CancellableRun run(ort_, cancellation);
    run.check(ort_.api->RunWithBinding(session_.get(), run.options(), bound), doing);
    ort_.check(ort_.api->SynchronizeBoundOutputs(bound), doing);
    OrtAllocator* allocator = nullptr;
    ort_.check(ort_.api->GetAllocatorWithDefaultOptions(&allocator), doing);
    OrtValue** values = nullptr;
    size_t count = 0;
    ort_.check(ort_.api->GetBoundOutputValues(bound, allocator, &values, &count), doing);
    std::vector<Tensor> owned = owned_values(values, count);
    ort_.check(ort_.api->AllocatorFree(allocator, values), doing);
    return owned;
}

std::vector<Tensor> Session::owned_values(OrtValue* const* values, size_t count) const {
    std::vector<Tensor> owned;
    owned.reserve(count);
    for (size_t i = 0; i < count; ++i) owned.push_back(ort_.own(values[i]));
    return owned;
}

}  // namespace samhq_core
