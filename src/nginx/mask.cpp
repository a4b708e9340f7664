// Plain searching: the texts are a request line, a header or a line of the log.
#include "nginx/mask.hpp"

#include <algorithm>

#include "core/ascii.hpp"

namespace rooms {
namespace {

constexpr std::size_t kMinSecretBytes = 16;
constexpr std::string_view kScheme = "Bearer";  // and a blank
constexpr std::string_view kProtocol = "rooms.bearer.";
constexpr std::size_t kMinJwt = 20;  // shorter runs that begin with eyJ are words

std::string_view view(std::span<const char> text) { return {text.data(), text.size()}; }

constexpr ByteSet is_name_byte([](char c) { return is_alpha(c) || is_digit(c) || c == '_' || c == '-'; });
constexpr ByteSet is_token_byte([](char c) { return is_name_byte(c) || c == '.'; });

constexpr ByteSet ends_argument([](char c) {
    return c == '&' || c == ' ' || c == '"' || c == '#' || c == '\r' || c == '\n' || c == '\t' || c == '\0';
});
constexpr ByteSet ends_credential([](char c) { return c == ',' || ends_argument(c); });
bool ends_header(char c) { return c == '"' || c == '\r' || c == '\n' || c == '\0'; }

// Scheme or protocol: most bytes are passed over without a comparison.
constexpr ByteSet may_begin([](char c) {
    return ascii_lower(c) == ascii_lower(kScheme[0]) || ascii_lower(c) == ascii_lower(kProtocol[0]);
});

bool ends_with_colon(std::string_view text) {
    text = trim_ows(text);
    return text.ends_with(':');
}

template <typename Ends>
std::size_t mask_until(std::span<char> text, std::size_t at, Ends&& ends) {
    while (at < text.size() && !ends(text[at])) text[at++] = '*';
    return at;
}

bool at_caseless(std::string_view text, std::size_t at, std::string_view what) {
    return text.size() - at >= what.size() && equal_caseless(text.substr(at, what.size()), what);
}

}  // namespace

void mask_arguments(std::span<char> text, std::span<const std::string> names) {
    const std::string_view all = view(text);
    for (std::size_t equals = all.find('='); equals != all.npos; equals = all.find('=', equals + 1)) {
        const bool secret = std::any_of(names.begin(), names.end(), [&](const std::string& name) {
            if (name.size() > equals) return false;
            const std::size_t begin = equals - name.size();
            return at_caseless(all, begin, name) && (begin == 0 || !is_name_byte(all[begin - 1]));
        });
        if (secret) mask_until(text, equals + 1, ends_argument);
    }
}

void mask_cookies(std::span<char> text, std::span<const std::string> names) {
    const std::string_view all = view(text);
    for (std::size_t equals = all.find('='); equals != all.npos; equals = all.find('=', equals + 1)) {
        const std::string_view before = trim_ows(all.substr(0, equals));
        const bool secret = std::any_of(names.begin(), names.end(), [&](const std::string& name) {
            if (name.size() > before.size()) return false;
            const std::size_t begin = before.size() - name.size();
            return at_caseless(before, begin, name) && (begin == 0 || !is_name_byte(before[begin - 1]));
        });
        if (secret) mask_until(text, equals + 1, [](char c) { return c == ';'; });
    }
}

void mask_bytes(std::span<char> text, std::string_view secret) {
    if (secret.size() < kMinSecretBytes) return;
    const std::string_view all = view(text);
    for (std::size_t at = all.find(secret); at != all.npos; at = all.find(secret, at + secret.size())) {
        std::fill_n(text.begin() + static_cast<std::ptrdiff_t>(at), secret.size(), '*');
    }
}

void mask_credentials(std::span<char> text) {
    const std::string_view all = view(text);
    for (std::size_t at = 0; at < all.size(); ++at) {
        if (!may_begin(all[at])) continue;
        const std::size_t blank = at + kScheme.size();
        if (at_caseless(all, at, kScheme) && blank < all.size() &&
            (all[blank] == ' ' || all[blank] == '\t')) {
            // In a header line a secret may have blanks in it; in running text a word is enough.
            const bool header = ends_with_colon(all.substr(0, at));
            at = mask_until(text, blank + 1,
                            [&](char c) { return header ? ends_header(c) : ends_credential(c); });
        } else if (at_caseless(all, at, kProtocol)) {
            at = mask_until(text, at + kProtocol.size(), ends_credential);
        }
    }
    for (std::size_t at = all.find("eyJ"); at != all.npos; at = all.find("eyJ", at + 1)) {
        if (at != 0 && is_token_byte(all[at - 1])) continue;
        std::size_t end = at;
        while (end < all.size() && is_token_byte(all[end])) ++end;
        if (end - at < kMinJwt) continue;
        mask_until(text, at, [&](char c) { return !is_token_byte(c); });
    }
}

}  // namespace rooms
