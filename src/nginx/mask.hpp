// Overwrites secrets in text with `*`: argument values, credentials, anything that looks like a JWT.
//
// Pure; works in place, never changes a length, never reads beyond the text. Doing it twice does
// no harm.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace rooms {

// The values of these arguments (names in lower case, found caselessly, as $arg_… is), from `=` to
// the next `&`, blank, quote, `#` or end. A name counts where no byte of a name stands before it.
void mask_arguments(std::span<char> text, std::span<const std::string> names);

// The values of these cookies (names in lower case, found caselessly, as $cookie_… is) in a header
// Cookie, from `=` to the next `;`.
void mask_cookies(std::span<char> text, std::span<const std::string> names);

// Every place where `secret` stands byte for byte. Secrets of fewer than 16 bytes are none: their
// bytes could be anything.
void mask_bytes(std::span<char> text, std::string_view secret);

// What follows `Bearer ` and `rooms.bearer.`, and runs of base64url with dots that begin like the
// header of a JWT.
void mask_credentials(std::span<char> text);

}  // namespace rooms
