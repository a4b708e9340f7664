#include "core/lookup_text.hpp"

#include <algorithm>

#include "core/ascii.hpp"

namespace rooms {
namespace {

bool is_name_byte(char c) { return is_alpha(c) || is_digit(c) || c == '_'; }

// Takes what stands behind a `$`: a name, with or without braces. Nothing: it is no variable.
class Variables {
public:
    Variables(const VariableResolver& resolve, LookupText& out) : resolve_(resolve), out_(out) {}

    // REQUIRES: text[at] is the `$`. Moves `at` behind the variable.
    [[nodiscard]] bool take(std::string_view text, std::size_t& at) {
        std::size_t i = at + 1;
        const bool braces = i < text.size() && text[i] == '{';
        if (braces) ++i;
        const std::size_t begin = i;
        while (i < text.size() && is_name_byte(text[i])) ++i;
        const std::string name(text.substr(begin, i - begin));
        if (name.empty() || is_digit(name.front())) {
            fault = "\"$\" without a variable's name";
            return false;
        }
        if (braces && (i == text.size() || text[i++] != '}')) {
            fault = "\"${" + name + "\" without \"}\"";
            return false;
        }
        const auto source = resolve_(name);
        if (!source) {
            fault = "unknown variable \"$" + name + "\"";
            return false;
        }
        out_.parameters.push_back(*source);
        out_.literals.emplace_back();
        at = i;
        return true;
    }

    std::string fault;

private:
    const VariableResolver& resolve_;
    LookupText& out_;
};

// The end of what begins at `at` and is not code: a string, a quoted name, a comment. `at` itself: nothing
// begins there. (PostgreSQL manual, section 4.1; strings with a backslash before their quote end later
// only as E'…', and a `$` behind such an end would be taken for one in quotes, which is an error, not a hole.)
std::size_t end_of_quoted(std::string_view text, std::size_t at) {
    const auto end_behind = [&](std::string_view mark, std::size_t from) {
        const std::size_t end = text.find(mark, from);
        return end == text.npos ? text.size() : end + mark.size();
    };
    const std::string_view rest = text.substr(at);
    if (rest.starts_with('\'')) return end_behind("'", at + 1);
    if (rest.starts_with('"')) return end_behind("\"", at + 1);
    if (rest.starts_with("--")) return end_behind("\n", at);
    if (rest.starts_with("/*")) return end_behind("*/", at + 2);
    return at;
}

bool has_dot_segment(std::string_view path) {
    while (!path.empty()) {
        const std::size_t end = path.find('/');
        const std::string_view segment = path.substr(0, end);
        if (segment == "." || segment == "..") return true;
        path = end == path.npos ? std::string_view() : path.substr(end + 1);
    }
    return false;
}

}  // namespace

Result<LookupText> compile_sql(std::string_view text, const VariableResolver& resolve) {
    LookupText sql;
    Variables variables(resolve, sql);
    for (std::size_t i = 0; i < text.size();) {
        if (text[i] == '$') {
            if (!variables.take(text, i)) return Error{variables.fault};
            continue;
        }
        const std::size_t end = end_of_quoted(text, i);
        if (end == i) {
            sql.literals.back() += text[i++];
            continue;
        }
        const std::string_view quoted = text.substr(i, end - i);
        if (quoted.find('$') != quoted.npos)
            return Error{"a \"$\" in quotes or in a comment: variables are values, and stand without quotes"};
        sql.literals.back() += quoted;
        i = end;
    }
    if (std::all_of(text.begin(), text.end(), [](char c) { return c == ' ' || c == '\t' || c == '\n'; }))
        return Error{"there is no statement"};
    return sql;
}

Result<LookupText> compile_uri(std::string_view text, const VariableResolver& resolve) {
    LookupText uri;
    Variables variables(resolve, uri);
    if (!text.starts_with('/')) return Error{"it must begin with \"/\""};
    for (std::size_t i = 0; i < text.size();) {
        if (text[i] == '$') {
            if (!variables.take(text, i)) return Error{variables.fault};
            continue;
        }
        if (text[i] <= ' ' || text[i] == 0x7f || text[i] == '#') return Error{"a byte that no URI has"};
        uri.literals.back() += text[i++];
    }
    return uri;
}

std::string sql_text(const LookupText& sql) {
    std::string text = sql.literals.front();
    for (std::size_t i = 1; i < sql.literals.size(); ++i) text += '$' + std::to_string(i) + sql.literals[i];
    return text;
}

std::optional<std::string> uri_text(const LookupText& uri, std::span<const std::string> values) {
    constexpr char kHex[] = "0123456789ABCDEF";
    std::string text = uri.literals.front();
    for (std::size_t i = 1; i < uri.literals.size(); ++i) {
        const std::string value = i <= values.size() ? values[i - 1] : std::string();
        // nginx decodes %2F in a path before it looks for dot segments.
        if (text.find('?') == text.npos && value.find('/') != value.npos) return std::nullopt;
        for (const char c : value) {
            if (is_alpha(c) || is_digit(c) || c == '-' || c == '.' || c == '_' || c == '~') {
                text += c;
                continue;
            }
            const auto byte = static_cast<unsigned char>(c);
            text += '%';
            text += kHex[byte >> 4];
            text += kHex[byte & 15];
        }
        text += uri.literals[i];
    }
    if (!uri.parameters.empty() && has_dot_segment(std::string_view(text).substr(0, text.find('?'))))
        return std::nullopt;
    return text;
}

}  // namespace rooms
