#include "half.hpp"

#include <cmath>
#include <cstring>

namespace samhq_core {
namespace {

// Bits of floats, signs left out.
constexpr uint32_t kInfinity = 0x7F800000;
constexpr uint32_t kFirstInfinite = 0x477FF000;  // 65520: halfway to 65536, which float16 does not have
constexpr uint32_t kFirstNormal = 0x38800000;    // 2^-14
constexpr uint32_t kRebias = 112;                // the exponents' offsets, 127 - 15
constexpr float kSmallest = 1.0F / (1 << 24);    // of float16, and the distance of those below 2^-14

}  // namespace

uint16_t to_half(float value) {
    uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    const uint32_t sign = (bits >> 16) & 0x8000, magnitude = bits & 0x7FFFFFFF;
    uint32_t half = 0;
    if (magnitude > kInfinity) {
        half = 0x7E00;  // NaN
    } else if (magnitude >= kFirstInfinite) {
        half = 0x7C00;
    } else if (magnitude < kFirstNormal) {
        half = static_cast<uint32_t>(std::nearbyint(std::fabs(value) / kSmallest));
    } else {
        const uint32_t rounded = magnitude + 0xFFF + ((magnitude >> 13) & 1);
        half = (rounded - (kRebias << 23)) >> 13;
    }
    return static_cast<uint16_t>(sign | half);
}

float from_half(uint16_t half) {
    const uint32_t exponent = (half >> 10) & 31U, fraction = half & 1023U;
    if (exponent == 0) {
        return std::copysign(static_cast<float>(fraction) * kSmallest, (half & 0x8000) != 0 ? -1.0F : 1.0F);
    }
    const uint32_t sign = (half & 0x8000U) << 16, biased = exponent == 31 ? 255 : exponent + kRebias;
    const uint32_t bits = sign | (biased << 23) | (fraction << 13);
    float value = 0;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

}  // namespace samhq_core
