// One graph, opened with exactly the execution providers that were asked for.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "contract.hpp"
#include "ort.hpp"

namespace samhq_core {

struct SessionConfig {
    std::string providers = "cpu";  // comma-separated, in order of preference
    int threads = 0;
    int device_id = 0;
};

struct Feed {
    const char* name;
    const OrtValue* value;
};

// Safe to run from several threads at once.
class Session {
  public:
    Session(const Ort& ort, const std::filesystem::path& file, const GraphSpec& spec, const SessionConfig& config);

    // The outputs, in the order of the contract.
    std::vector<Tensor> run(const std::vector<Feed>& feeds) const;
    const char* output(size_t index) const { return outputs_[index].c_str(); }

  private:
    void require_contract(const std::string& file, const GraphSpec& spec) const;

    const Ort& ort_;
    std::string name_;
    std::vector<std::string> outputs_;
    OrtOwned<OrtSession> session_;
};

}  // namespace samhq_core
