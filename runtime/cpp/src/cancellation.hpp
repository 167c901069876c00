// A request to stop, made from any thread.
#pragma once

#include <atomic>
#include <mutex>
#include <set>

#include "ort.hpp"

namespace samhq_core {

class CancellableRun;

class Cancellation {
  public:
    void request() noexcept;
    bool requested() const { return requested_; }
    void check() const;  // throws SAMHQ_ERROR_CANCELLED once it was requested

  private:
    friend class CancellableRun;
    std::atomic<bool> requested_{false};
    mutable std::mutex mutex_;
    mutable std::set<const CancellableRun*> running_;
};

// The options of one run of a graph, which a request ends between two of its operators.
class CancellableRun {
  public:
    CancellableRun(const Ort& ort, const Cancellation* cancellation);  // nullptr: it runs to its end
    ~CancellableRun();
    CancellableRun(const CancellableRun&) = delete;
    CancellableRun& operator=(const CancellableRun&) = delete;

    const OrtRunOptions* options() const { return options_.get(); }
    void check(OrtStatus* status, const std::string& doing) const;  // of the run

  private:
    friend class Cancellation;
    const Ort& ort_;
    const Cancellation* cancellation_;
    OrtOwned<OrtRunOptions> options_;
};

}  // namespace samhq_core
