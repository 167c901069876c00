// ONNX Runtime's execution providers: which ones, and the options of each for a graph.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "contract.hpp"
#include "ort.hpp"

namespace samhq_core {

using ProviderOptions = std::vector<std::pair<std::string, std::string>>;

struct ProviderChoice {
    std::string name;
    ProviderOptions options;  // the caller's
};

struct SessionConfig {
    std::vector<ProviderChoice> providers = {{"cpu", {}}};  // in order of preference
    int threads = 0;
    int device_id = 0;

    bool cpu_only() const { return providers.front().name == "cpu"; }  // cpu is always the last one
};

// The providers of a comma-separated list, with options as "PROVIDER.OPTION=VALUE". Throws SAMHQ_ERROR_CONFIG: unknown
// ones, options of others, options that contradict what a bundle promises.
std::vector<ProviderChoice> provider_choices(const std::string& providers, const std::vector<std::string>& options);

// What small graphs, of sizes that change, are opened with on the device where a session of `config` keeps its outputs:
// without the caller's options, which are for the session's own graph.
SessionConfig beside(const SessionConfig& config);

// All options of one provider for one graph: ours, the profile of its dynamic sizes, and on top the caller's.
ProviderOptions options_of(const ProviderChoice& choice, const GraphSpec& spec, int device_id);

// Where the outputs of a provider are kept, as ONNX Runtime calls that device.
const char* memory_of(const std::string& provider);

// Have session options use the provider. Throws SAMHQ_ERROR_UNAVAILABLE.
void append_provider(const Ort& ort, OrtSessionOptions* session, const std::string& name, const ProviderOptions& options);

}  // namespace samhq_core
