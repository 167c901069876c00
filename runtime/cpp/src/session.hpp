// One graph, opened with exactly the execution providers that were asked for.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "cancellation.hpp"
#include "contract.hpp"
#include "ort.hpp"
#include "providers.hpp"

namespace samhq_core {

struct Feed {
    const char* name;
    const OrtValue* value;
};

// What a session of the graph is opened with.
OrtOwned<OrtSessionOptions> session_options(const Ort& ort, const GraphSpec& spec, const SessionConfig& config);

// Safe to run from several threads at once.
class Session {
  public:
    Session(const Ort& ort, const std::filesystem::path& file, const GraphSpec& spec, const SessionConfig& config);

    // The outputs in host memory, in the order of the contract; inputs may be on the device.
    std::vector<Tensor> run(const std::vector<Feed>& feeds, const Cancellation* cancellation) const;
    // The outputs in the memory of the first provider's device.
    std::vector<Tensor> keep(const std::vector<Feed>& feeds, const Cancellation* cancellation) const;
    const char* output(size_t index) const { return outputs_[index].c_str(); }

  private:
    void require_contract(const std::string& file, const GraphSpec& spec) const;
    std::vector<Tensor> owned_values(OrtValue* const* values, size_t count) const;

    const Ort& ort_;
    std::string name_;
    std::vector<std::string> outputs_;
    OrtOwned<OrtSession> session_;
    OrtOwned<OrtMemoryInfo> memory_;
};

}  // namespace samhq_core
