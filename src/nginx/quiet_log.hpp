// A log that remembers nginx's last message in place of writing it: for connections of ours, about which
// we write one line when their state changes and not one for each attempt.
//
// Alerts are written all the same, for they are about the host or about a bug.
#pragma once

#include <string>
#include <string_view>

#include "nginx/ngx.hpp"

namespace rooms {

class QuietLog {
public:
    QuietLog();
    QuietLog(const QuietLog&) = delete;
    QuietLog& operator=(const QuietLog&) = delete;

    [[nodiscard]] ngx_log_t* log() { return &log_; }
    void forget() { said_.clear(); }
    // Why it failed, from the message: "connection reset by peer". `otherwise`: there is none.
    [[nodiscard]] std::string reason(std::string_view otherwise) const;

private:
    void hear(ngx_uint_t level, std::string_view line);

    ngx_log_t log_{};
    std::string said_;
};

// "Connection refused" inside of a sentence.
[[nodiscard]] std::string decapitalized(std::string_view text);

}  // namespace rooms
