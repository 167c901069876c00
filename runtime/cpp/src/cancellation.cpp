#include "cancellation.hpp"

namespace samhq_core {

void Cancellation::request() noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    requested_ = true;
    for (const CancellableRun* run : running_) {
        OrtStatus* status = run->ort_.api->RunOptionsSetTerminate(run->options_.get());
        if (status != nullptr) run->ort_.api->ReleaseStatus(status);  // it runs to its end, and is discarded then
    }
}

void Cancellation::check() const {
    if (requested_) throw Error(SAMHQ_ERROR_CANCELLED, "cancelled, as was asked for");
}

CancellableRun::CancellableRun(const Ort& ort, const Cancellation* cancellation)
    : ort_(ort), cancellation_(cancellation) {
    OrtRunOptions* options = nullptr;
    ort.check(ort.api->CreateRunOptions(&options), "making run options");
    options_ = ort.own(options);
    if (cancellation_ == nullptr) return;
    const std::lock_guard<std::mutex> lock(cancellation_->mutex_);
    cancellation_->check();
    cancellation_->running_.insert(this);
}

CancellableRun::~CancellableRun() {
    if (cancellation_ == nullptr) return;
    const std::lock_guard<std::mutex> lock(cancellation_->mutex_);
    cancellation_->running_.erase(this);
}

void CancellableRun::check(OrtStatus* status, const std::string& doing) const {
    if (cancellation_ != nullptr && cancellation_->requested()) {
        const OrtOwned<OrtStatus> owned = ort_.own(status);
        cancellation_->check();
    }
    ort_.check(status, doing);
}

}  // namespace samhq_core
