// POSIX extended regular expressions (libc's): the grammar of an RFC in a line or two, beside a parser by hand.
#pragma once

#include <regex.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "fuzz/split.hpp"

namespace rooms {

class PlainRegex {
public:
    explicit PlainRegex(const std::string& expression, int flags = 0) {
        FUZZ_CHECK(regcomp(&regex_, expression.c_str(), REG_EXTENDED | flags) == 0);
    }
    PlainRegex(const PlainRegex&) = delete;
    PlainRegex& operator=(const PlainRegex&) = delete;
    ~PlainRegex() { regfree(&regex_); }

    // The whole match and its groups, empty where they took no part. Nothing at all: no match.
    [[nodiscard]] std::vector<std::string_view> match(std::string_view text) const {
        std::vector<regmatch_t> spans(regex_.re_nsub + 1);
        spans[0].rm_so = 0;
        spans[0].rm_eo = static_cast<regoff_t>(text.size());
        std::vector<std::string_view> groups;
        // Without the flag an octet 0 would end the text; but sanitizers want one at the end.
        const std::string copy(text);
        if (regexec(&regex_, copy.c_str(), spans.size(), spans.data(), REG_STARTEND) != 0) return groups;
        for (const regmatch_t& span : spans) {
            groups.push_back(span.rm_so < 0 ? std::string_view()
                                            : text.substr(static_cast<std::size_t>(span.rm_so),
                                                          static_cast<std::size_t>(span.rm_eo - span.rm_so)));
        }
        return groups;
    }
    [[nodiscard]] bool matches(std::string_view text) const { return !match(text).empty(); }

private:
    regex_t regex_;
};

// RFC 9110 section 5.6.2, as a set.
inline const std::string kTokenChars = "[!#$%&'*+.^_`|~0-9A-Za-z-]";

inline std::string lower_plainly(std::string_view text) {
    std::string result(text);
    for (char& c : result) {
        if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    }
    return result;
}

inline std::vector<std::string_view> split_plainly(std::string_view text, char mark) {
    std::vector<std::string_view> parts;
    for (;;) {
        const std::size_t end = text.find(mark);
        parts.push_back(text.substr(0, end));
        if (end == text.npos) return parts;
        text.remove_prefix(end + 1);
    }
}

}  // namespace rooms
