// ONNX Runtime's execution providers: which ones, and the options of each for a graph.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "contract.hpp"
#include "ort.hpp"

namespace samhq_core {

using ProviderOptions = std::vector<std::pair<std::string, std::string>>;

struct SessionConfig {
    std::string providers = "cpu";              // comma-separated, in order of preference
    std::vector<std::string> provider_options;  // "PROVIDER.OPTION=VALUE"
    int threads = 0;
    int device_id = 0;
};

struct ProviderChoice {
    std::string name;
    ProviderOptions options;  // the caller's
};

// The providers of a configuration. Throws SAMHQ_ERROR_CONFIG: unknown ones, options of others, options that contradict
// what a bundle promises.
std::vector<ProviderChoice> provider_choices(const SessionConfig& config);

// All options of one provider for one graph: ours, the profile of its dynamic sizes, and on top the caller's.
ProviderOptions options_of(const ProviderChoice& choice, const GraphSpec& spec, int device_id);

// Where the outputs of a provider are kept, as ONNX Runtime calls that device.
const char* memory_of(const std::string& provider);

// Have session options use the provider. Throws SAMHQ_ERROR_UNAVAILABLE.
void append_provider(const Ort& ort, OrtSessionOptions* session, const std::string& name, const ProviderOptions& options);

}  // namespace samhq_core
