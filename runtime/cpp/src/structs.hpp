// The versioned structs of the C interface: callers of any version are read, and answered.
#pragma once

#include <samhq/samhq.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "error.hpp"

namespace samhq_core {

[[noreturn]] inline void bad_argument(const std::string& message) { throw Error(SAMHQ_ERROR_ARGUMENT, message); }

inline void require(const void* pointer, const char* name) {
    if (pointer == nullptr) bad_argument(concat(name, " is NULL"));
}

constexpr size_t kMaxStruct = 4096;

// The size of each struct in version 1 of the interface, of which every caller has at least all fields.
template <class Struct>
constexpr size_t kFirstSize = sizeof(Struct);
template <>
constexpr size_t kFirstSize<samhq_bundle_options> = offsetof(samhq_bundle_options, provider_options);
template <>
constexpr size_t kFirstSize<samhq_predict_options> = offsetof(samhq_predict_options, mask_threshold);

template <class Struct>
void require_struct_size(const Struct* given, const char* name) {
    const size_t size = given->struct_size;
    if (size < kFirstSize<Struct> || size > kMaxStruct) {
        bad_argument(concat(name, ": struct_size is ", size, "; set it to sizeof"));
    }
}

// The caller's struct as this version knows it: 0 for what an older caller does not have; what only a newer one has
// must be 0.
template <class Struct>
Struct read_struct(const Struct* given, const char* name) {
    require(given, name);
    require_struct_size(given, name);
    const auto* bytes = reinterpret_cast<const unsigned char*>(given);
    for (size_t i = sizeof(Struct); i < given->struct_size; ++i) {
        if (bytes[i] != 0) bad_argument(concat(name, ": sets a field that only a newer samhq knows"));
    }
    Struct known{};
    std::memcpy(&known, given, std::min(sizeof known, given->struct_size));
    return known;
}

template <class Struct>
Struct read_optional(const Struct* given, const char* name) {
    if (given != nullptr) return read_struct(given, name);
    Struct defaults{};
    defaults.struct_size = sizeof(Struct);
    return defaults;
}

// Fill the caller's struct; fields of newer versions stay as they are, and those an older one lacks are left out.
template <class Struct>
void write_struct(Struct* out, Struct filled, const char* name) {
    require_struct_size(out, name);
    filled.struct_size = out->struct_size;
    std::memcpy(out, &filled, std::min(sizeof filled, out->struct_size));
}

}  // namespace samhq_core
