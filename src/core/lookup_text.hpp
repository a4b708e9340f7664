// What a rule asks, as the operator wrote it, with the variables taken out: the text of `sql=`, whose
// variables become bound parameters and never text, and the URI of `request=`, where they are escaped.
//
// Compiled when the configuration is read; owned by the rules.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.hpp"
#include "core/rules.hpp"

namespace rooms {

struct LookupText {
    std::vector<std::string> literals = {""};  // around the parameters: one more than those
    RuleSet::Parameters parameters;            // in the order in which they stand in the text
};

// Errors say what is wrong; a variable between quotes is one, for it would be text.
[[nodiscard]] Result<LookupText> compile_sql(std::string_view text, const VariableResolver& resolve);
// A path, that begins with "/", and perhaps arguments.
[[nodiscard]] Result<LookupText> compile_uri(std::string_view text, const VariableResolver& resolve);

// "select 1 from t where id = $1"
[[nodiscard]] std::string sql_text(const LookupText& sql);
// With values in place, each byte but letters, digits and -._~ escaped (RFC 3986 section 2.3). Nothing where
// a value would lead to another place: a `/` in the path, or a segment of it that is all dots.
[[nodiscard]] std::optional<std::string> uri_text(const LookupText& uri, std::span<const std::string> values);

}  // namespace rooms
