// SHA-256 (FIPS 180-4).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace samhq_core {

class Sha256 {
  public:
    // `instructions`: use the processor's own for SHA-256 where it has them.
    explicit Sha256(bool instructions = true) : instructions_(instructions) {}

    void update(const uint8_t* data, size_t size);
    void update(std::string_view text) { update(reinterpret_cast<const uint8_t*>(text.data()), text.size()); }
    std::string hex_digest();  // ends the message

  private:
    void compress(const uint8_t* data, size_t blocks);

    bool instructions_;
    std::array<uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    std::array<uint8_t, 64> block_{};
    size_t filled_ = 0;
    uint64_t bytes_ = 0;
};

}  // namespace samhq_core
