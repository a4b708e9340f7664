// jansson beside our reader of JSON: it is slower, makes a tree, and shares no line with it.
//
// It has no verdict where it is stricter than JSON: on numbers that 64 bits or a double do not hold, on NUL in
// a name, on what is deeper than 2,048 levels. REQUIRES: no octet 0 in the text, which it overlooks behind a number.
#pragma once

#include <jansson.h>

#include <memory>
#include <string_view>

namespace rooms {

struct FreeTree {
    void operator()(json_t* tree) const { json_decref(tree); }
};
using Tree = std::unique_ptr<json_t, FreeTree>;

struct Judgement {
    Tree tree;  // null: refused, or no verdict
    bool undecided = false;
};

inline Judgement judge(std::string_view text, std::size_t flags = 0) {
    json_error_t error;
    Judgement judgement;
    judgement.tree.reset(
        json_loadb(text.data(), text.size(), JSON_DECODE_ANY | JSON_ALLOW_NUL | flags, &error));
    if (judgement.tree) return judgement;
    const auto code = json_error_code(&error);
    judgement.undecided = code == json_error_numeric_overflow || code == json_error_null_byte_in_key ||
                          code == json_error_stack_overflow;
    return judgement;
}

// Of a string; empty for everything else.
inline std::string_view text_of(const json_t* string) {
    return json_is_string(string) ? std::string_view(json_string_value(string), json_string_length(string))
                                  : std::string_view();
}

}  // namespace rooms
