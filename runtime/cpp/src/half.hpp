// float16 (IEEE 754 binary16) as its bits.
#pragma once

#include <cstdint>

namespace samhq_core {

uint16_t to_half(float value);  // to the nearest, halves to even, infinity beyond 65504, as numpy
float from_half(uint16_t half);

}  // namespace samhq_core
