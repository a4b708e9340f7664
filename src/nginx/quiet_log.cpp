#include "nginx/quiet_log.hpp"

#include <algorithm>

#include "core/ascii.hpp"
#include "nginx/guard.hpp"

namespace rooms {

std::string decapitalized(std::string_view text) {
    std::string result(text);
    if (!result.empty()) result[0] = ascii_lower(result[0]);
    return result;
}

QuietLog::QuietLog() {
    log_.log_level = NGX_LOG_ERR;
    log_.wdata = this;
    log_.writer = [](ngx_log_t* log, ngx_uint_t level, u_char* text, size_t size) {
        guarded(ngx_cycle->log, 0, [&] {
            static_cast<QuietLog*>(log->wdata)->hear(level, {reinterpret_cast<char*>(text), size});
            return 0;
        });
    };
}

// "TIME [LEVEL] PID#TID: *CONNECTION MESSAGE\n"
void QuietLog::hear(ngx_uint_t level, std::string_view line) {
    line.remove_prefix(std::min(line.size(), line.find('#')));
    if (const std::size_t colon = line.find(": "); colon != line.npos) line.remove_prefix(colon + 2);
    if (line.ends_with('\n')) line.remove_suffix(1);
    said_ = line;
    if (level > NGX_LOG_ALERT) return;
    const ngx_str_t shown = ngx_view(line);
    ngx_log_error(level, ngx_cycle->log, 0, "%V", &shown);
}

// The cause is what nginx puts in the last parentheses:
//   recv() failed (104: Connection reset by peer)
//   SSL_do_handshake() failed (SSL: error:0A00010B:SSL routines::wrong version number)
std::string QuietLog::reason(std::string_view otherwise) const {
    std::string_view text = said_;
    const std::size_t at = text.rfind(" (");
    if (at == text.npos) return std::string(otherwise);
    text.remove_prefix(at + 2);
    text = text.substr(0, text.find(')'));
    const bool tls = text.starts_with("SSL: ");
    for (int colons = tls ? 5 : 1; colons > 0; --colons) {
        const std::size_t colon = text.find(':');
        if (colon == text.npos) return std::string(otherwise);
        text.remove_prefix(colon + 1);
    }
    if (tls) text = text.substr(0, std::min(text.find(':'), text.find(" error:")));
    if (text.starts_with(' ')) text.remove_prefix(1);
    return text.empty() ? std::string(otherwise) : decapitalized(text);
}

}  // namespace rooms
