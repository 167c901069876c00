// Tensors that a provider keeps on its device, brought to the host.
#pragma once

#include <cstdint>
#include <vector>

#include "ort.hpp"
#include "providers.hpp"

namespace samhq_core {

bool on_host(const Ort& ort, const OrtValue* value);

// Copies on the host of tensors, of one dtype, that a session of this configuration has left on its device. The oldest
// API that is used has no call for that, so a graph of one operator is run beside the session.
std::vector<Tensor> copy_to_host(const Ort& ort, const std::vector<const OrtValue*>& values,
                                 const SessionConfig& config);

}  // namespace samhq_core
