// The one exception of the library; the C ABI turns it into a status and a message.
#pragma once

#include <samhq/samhq.h>

#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace samhq_core {

class Error : public std::runtime_error {
  public:
    Error(samhq_status status, const std::string& message) : std::runtime_error(message), status_(status) {}
    samhq_status status() const noexcept { return status_; }

  private:
    samhq_status status_;
};

// The arguments printed one after the other, numbers without a locale's separators.
template <class... Parts>
std::string concat(const Parts&... parts) {
    std::ostringstream text;
    text.imbue(std::locale::classic());
    (text << ... << parts);
    return text.str();
}

inline std::string joined(const std::vector<std::string>& items, const char* separator = ", ") {
    std::string text;
    for (const std::string& item : items) text += (text.empty() ? "" : separator) + item;
    return text;
}

}  // namespace samhq_core
