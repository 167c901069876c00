// ONNX Runtime's C API out of a library that is loaded at run time; nothing is linked.
#pragma once

#include <onnxruntime_c_api.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "error.hpp"

namespace samhq_core {

struct OrtRelease {
    const OrtApi* api = nullptr;
    void operator()(OrtCUDAProviderOptionsV2* p) const { api->ReleaseCUDAProviderOptions(p); }
    void operator()(OrtTensorRTProviderOptionsV2* p) const { api->ReleaseTensorRTProviderOptions(p); }
    void operator()(OrtIoBinding* p) const { api->ReleaseIoBinding(p); }
    void operator()(OrtMemoryInfo* p) const { api->ReleaseMemoryInfo(p); }
    void operator()(OrtRunOptions* p) const { api->ReleaseRunOptions(p); }
    void operator()(OrtSession* p) const { api->ReleaseSession(p); }
    void operator()(OrtSessionOptions* p) const { api->ReleaseSessionOptions(p); }
    void operator()(OrtStatus* p) const { api->ReleaseStatus(p); }
    void operator()(OrtTensorTypeAndShapeInfo* p) const { api->ReleaseTensorTypeAndShapeInfo(p); }
    void operator()(OrtTypeInfo* p) const { api->ReleaseTypeInfo(p); }
    void operator()(OrtValue* p) const { api->ReleaseValue(p); }
};
template <class T>
using OrtOwned = std::unique_ptr<T, OrtRelease>;
using Tensor = OrtOwned<OrtValue>;

// One loaded library. It lives as long as the process, because it does not survive being unloaded.
struct Ort {
    const OrtApi* api = nullptr;
    OrtEnv* env = nullptr;
    std::string version;

    // The library at `path`; if that is empty, the one SAMHQ_ONNXRUNTIME names, else what the dynamic loader finds.
    static const Ort& load(const std::string& path);

    // Throw `kind` with the first line of what `status` says, if it says anything.
    void check(OrtStatus* status, const std::string& doing, samhq_status kind = SAMHQ_ERROR_BACKEND) const;

    template <class T>
    OrtOwned<T> own(T* pointer) const {
        return OrtOwned<T>(pointer, OrtRelease{api});
    }

    // A tensor over the caller's memory, which must outlive it; read only.
    Tensor tensor(const float* data, const std::vector<int64_t>& shape) const;
    Tensor tensor(const int64_t* data, const std::vector<int64_t>& shape) const;

    // A tensor with memory of its own, to be filled through `data`.
    Tensor new_tensor(const std::vector<int64_t>& shape, ONNXTensorElementDataType dtype) const;

    std::vector<int64_t> shape(const OrtValue* value) const;
    ONNXTensorElementDataType dtype(const OrtValue* value) const;
    void* data(const OrtValue* value) const;  // on the host
    const float* floats(const OrtValue* value) const { return static_cast<const float*>(data(value)); }

  private:
    Tensor wrap(const void* data, size_t item_size, const std::vector<int64_t>& shape,
                ONNXTensorElementDataType dtype) const;
};

}  // namespace samhq_core
