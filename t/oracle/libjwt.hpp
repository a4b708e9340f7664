// libjwt as a second opinion on tokens, for the oracle and the fuzzer. It leaks, which is not looked at here: nor
// are leaks of ours in programs that include this.
#pragma once

#include <jansson.h>
#include <jwt.h>
#include <strings.h>

#include <memory>
#include <string>
#include <string_view>

#include "core/base64.hpp"
#include "core/freed.hpp"

extern "C" __attribute__((visibility("default"))) const char* __asan_default_options();
extern "C" const char* __asan_default_options() { return "detect_leaks=0"; }

namespace oracle {

inline bool libjwt_accepts(const std::string& token, const std::string& key) {
    jwt_t* jwt = nullptr;
    const int result = jwt_decode(&jwt, token.c_str(), reinterpret_cast<const unsigned char*>(key.data()),
                                  static_cast<int>(key.size()));
    jwt_free(jwt);
    return result == 0;
}

// The `alg` of an accepted token. Empty: libjwt refuses it for reasons of its own, a `typ` that is not "JWT" (by
// RFC 7519 section 5.1 it is a hint), a number that 64 bits do not hold, or a NUL in a text.
inline std::string alg_for_libjwt(std::string_view token) {
    const std::string text = rooms::base64url_decode(token.substr(0, token.find('.'))).value_or("");
    const std::unique_ptr<json_t, rooms::Freed<[](json_t* tree) { json_decref(tree); }>> header(
        json_loadb(text.data(), text.size(), 0, nullptr));
    const char* typ = json_string_value(json_object_get(header.get(), "typ"));
    const char* alg = json_string_value(json_object_get(header.get(), "alg"));
    return alg && (!typ || strcasecmp(typ, "JWT") == 0) ? alg : "";
}

}  // namespace oracle
