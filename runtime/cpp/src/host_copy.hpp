// Tensors that a provider keeps on its device, brought to the host.
#pragma once

#include <cstdint>
#include <vector>

#include "ort.hpp"
#include "providers.hpp"

namespace samhq_core {

bool on_host(const Ort& ort, const OrtValue* value);

// A copy of the tensor on the host. The oldest API that is used has no call for that, so a graph of one operator is run.
Tensor copy_to_host(const Ort& ort, const OrtValue* value, const SessionConfig& config);

}  // namespace samhq_core
