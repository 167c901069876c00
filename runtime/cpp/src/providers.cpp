#include "providers.hpp"

#include <algorithm>
#include <sstream>

namespace samhq_core {
namespace {

constexpr const char* kPrecision = "precision is the graph's; export the bundle in another --precision";
constexpr const char* kGraphs = "it needs inputs and outputs at fixed addresses";
constexpr const char* kDevice = "set device_id of samhq_bundle_options, which holds for both graphs";

struct Refused {
    const char* option;
    const char* why;
};

// One row: `beside` is the provider that runs small graphs of sizes that change on the same device; `profile` is the
// prefix of its options for the shapes of dynamic inputs.
struct Provider {
    const char* name;
    const char* ort_name;
    const char* memory;
    const char* beside;
    const char* profile;
    std::vector<Refused> refused;
};

const std::vector<Provider>& providers() {
    static const auto& rows = *new std::vector<Provider>{
        {"cpu", "CPUExecutionProvider", "Cpu", "cpu", "", {}},
        {"cuda", "CUDAExecutionProvider", "Cuda", "cuda", "", {{"enable_cuda_graph", kGraphs}, {"device_id", kDevice}}},
        {"tensorrt",
         "TensorrtExecutionProvider",
         "Cuda",
         "cuda",  // TensorRT takes no graph without shapes, and an engine for every new one would take seconds
         "trt",
         {{"trt_fp16_enable", kPrecision},
          {"trt_bf16_enable", kPrecision},
          {"trt_int8_enable", kPrecision},
          {"trt_cuda_graph_enable", kGraphs},
          {"device_id", kDevice}}}};
    return rows;
}

const Provider* find_provider(const std::string& name) {
    const auto found = std::find_if(providers().begin(), providers().end(),
                                    [&](const Provider& provider) { return name == provider.name; });
    return found == providers().end() ? nullptr : &*found;
}

[[noreturn]] void bad_config(const std::string& message) { throw Error(SAMHQ_ERROR_CONFIG, message); }

std::vector<ProviderChoice> split_providers(const std::string& list) {
    std::vector<ProviderChoice> choices;
    std::stringstream text(list);
    for (std::string name; std::getline(text, name, ',');) {
        if (find_provider(name) == nullptr) {
            bad_config(concat("unknown provider '", name, "'; choose from cpu, cuda, tensorrt"));
        }
        for (const ProviderChoice& earlier : choices) {
            if (earlier.name == name || earlier.name == "cpu") {
                bad_config(concat("providers '", list, "': each at most once, and cpu last"));
            }
        }
        choices.push_back({name, {}});
    }
    if (choices.empty()) bad_config("no provider; choose from cpu, cuda, tensorrt");
    return choices;
}

void add_option(std::vector<ProviderChoice>& choices, const std::string& text) {
    const size_t equals = text.find('='), dot = text.find('.');
    if (dot == 0 || dot >= equals || dot + 1 == equals || equals == std::string::npos) {
        bad_config(concat("provider option '", text, "': expected PROVIDER.OPTION=VALUE such as ",
                          "tensorrt.trt_engine_cache_enable=1"));
    }
    const std::string provider = text.substr(0, dot), option = text.substr(dot + 1, equals - dot - 1);
    const auto choice = std::find_if(choices.begin(), choices.end(),
                                     [&](const ProviderChoice& one) { return one.name == provider; });
    if (choice == choices.end()) bad_config(concat("provider option '", text, "': ", provider, " is not in providers"));
    if (provider == "cpu") bad_config(concat("provider option '", text, "': cpu takes none"));
    for (const Refused& refused : find_provider(provider)->refused) {
        if (option == refused.option) bad_config(concat("provider option '", text, "': refused; ", refused.why));
    }
    choice->options.emplace_back(option, text.substr(equals + 1));
}

// The smallest, usual and largest value of every dynamic size, as samhq_runtime/nvidia/profiles.py has them.
struct Bounds {
    const char* size;
    int64_t min, opt, max;
};
constexpr Bounds kBounds[] = {{"images", 1, 1, 1},
                              {"prompts", 1, 8, 64},
                              {"points", 1, 2, 16},
                              {"mask_inputs", 1, 1, 64},
                              {"combinations", 1, 1, kSamTokens + 1}};
constexpr std::pair<const char*, int64_t Bounds::*> kKinds[] = {
    {"min", &Bounds::min}, {"opt", &Bounds::opt}, {"max", &Bounds::max}};

const Bounds& bounds_of(const std::string& size) {
    for (const Bounds& bounds : kBounds) {
        if (size == bounds.size) return bounds;
    }
    throw Error(SAMHQ_ERROR_INTERNAL, concat("no bounds of the size ", size));
}

// "name dtype (2, 'points')" -> "name:2x1", or nothing where no size is dynamic.
std::string bounded_shape(const std::string& tensor, int64_t Bounds::*kind) {
    if (tensor.find('\'') == std::string::npos) return "";
    const size_t open = tensor.find('(');
    std::stringstream dims(tensor.substr(open + 1, tensor.size() - open - 2));
    std::vector<std::string> shape;
    for (std::string dim; std::getline(dims >> std::ws, dim, ',');) {
        const bool dynamic = dim.front() == '\'';
        shape.push_back(dynamic ? std::to_string(bounds_of(dim.substr(1, dim.size() - 2)).*kind) : dim);
    }
    return tensor.substr(0, tensor.find(' ')) + ":" + joined(shape, "x");
}

ProviderOptions profile_options(const std::string& prefix, const GraphSpec& spec) {
    ProviderOptions options;
    for (const auto& [name, kind] : kKinds) {
        std::vector<std::string> shapes;
        for (const std::string& input : spec.inputs) {
            const std::string shape = bounded_shape(input, kind);
            if (!shape.empty()) shapes.push_back(shape);
        }
        options.emplace_back(concat(prefix, "_profile_", name, "_shapes"), joined(shapes, ","));
    }
    return options;
}

bool has_option(const ProviderOptions& options, const std::string& name) {
    return std::any_of(options.begin(), options.end(), [&](const auto& option) { return option.first == name; });
}

void require_available(const Ort& ort, const Provider& provider) {
    char** names = nullptr;
    int count = 0;
    ort.check(ort.api->GetAvailableProviders(&names, &count), "listing providers");
    const std::vector<std::string> found(names, names + count);
    ort.check(ort.api->ReleaseAvailableProviders(names, count), "listing providers");
    if (std::count(found.begin(), found.end(), provider.ort_name) > 0) return;
    throw Error(SAMHQ_ERROR_UNAVAILABLE, concat("provider ", provider.name, " is not in this ONNX Runtime ",
                                                ort.version, " (it has ", joined(found),
                                                "); for NVIDIA GPUs take one of its GPU builds"));
}

// The two providers with options are made, filled and appended by functions of the same kind.
template <class Options, class Create, class Update, class Append>
void append(const Ort& ort, OrtSessionOptions* session, const std::string& name, const ProviderOptions& given,
            Create create, Update update, Append append_to) {
    const std::string doing = "provider " + name;
    Options* options = nullptr;
    ort.check(create(&options), doing, SAMHQ_ERROR_UNAVAILABLE);
    const auto owned = ort.own(options);
    std::vector<const char*> keys, values;
    for (const auto& [key, value] : given) keys.push_back(key.c_str()), values.push_back(value.c_str());
    ort.check(update(options, keys.data(), values.data(), keys.size()), doing, SAMHQ_ERROR_CONFIG);
    ort.check(append_to(session, options), doing, SAMHQ_ERROR_UNAVAILABLE);
}

}  // namespace

std::vector<ProviderChoice> provider_choices(const std::string& providers, const std::vector<std::string>& options) {
    std::vector<ProviderChoice> choices = split_providers(providers);
    for (const std::string& option : options) add_option(choices, option);
    return choices;
}

SessionConfig beside(const SessionConfig& config) {
    return {{{find_provider(config.providers.front().name)->beside, {}}}, 1, config.device_id};
}

ProviderOptions options_of(const ProviderChoice& choice, const GraphSpec& spec, int device_id) {
    const Provider& provider = *find_provider(choice.name);
    if (choice.name == "cpu") return {};
    ProviderOptions options = {{"device_id", std::to_string(device_id)}};
    if (choice.name == "cuda" && !has_option(choice.options, "use_tf32")) {
        options.emplace_back("use_tf32", "0");  // float32 graphs compute in float32
    }
    if (*provider.profile != '\0') {
        const ProviderOptions profile = profile_options(provider.profile, spec);
        const bool own = std::any_of(profile.begin(), profile.end(),
                                     [&](const auto& option) { return has_option(choice.options, option.first); });
        // Half of a profile of ours and half of another fit nothing.
        if (!own) options.insert(options.end(), profile.begin(), profile.end());
    }
    options.insert(options.end(), choice.options.begin(), choice.options.end());
    return options;
}

const char* memory_of(const std::string& provider) { return find_provider(provider)->memory; }

void append_provider(const Ort& ort, OrtSessionOptions* session, const std::string& name,
                     const ProviderOptions& options) {
    require_available(ort, *find_provider(name));
    const OrtApi& api = *ort.api;
    if (name == "cuda") {
        append<OrtCUDAProviderOptionsV2>(ort, session, name, options, api.CreateCUDAProviderOptions,
                                         api.UpdateCUDAProviderOptions,
                                         api.SessionOptionsAppendExecutionProvider_CUDA_V2);
    }
    if (name == "tensorrt") {
        append<OrtTensorRTProviderOptionsV2>(ort, session, name, options, api.CreateTensorRTProviderOptions,
                                             api.UpdateTensorRTProviderOptions,
                                             api.SessionOptionsAppendExecutionProvider_TensorRT_V2);
    }
}

}  // namespace samhq_core
