// Any bytes as JSON, beside jansson: the same verdict, the same values at every depth, the same objects with
// a name twice. And any text that is written as a string is read as what it was.
#include "core/json.hpp"

#include <map>
#include <string>

#include "core/utf8.hpp"

#include "fuzz/jansson.hpp"
#include "fuzz/split.hpp"

using namespace rooms;

namespace {

constexpr unsigned kDepth = 64;

void compare(const JsonValue& ours, const json_t* theirs);

void compare_members(std::string_view object, const json_t* theirs) {
    std::map<std::string, JsonValue> members;  // of one name the last, as jansson has it
    JsonMember member;
    for (JsonMembers each(object); each.next(member);)
        members.insert_or_assign(std::string(member.name()), JsonValue{member.type, member.raw});
    FUZZ_CHECK(members.size() == json_object_size(theirs));
    for (const auto& [name, value] : members) compare(value, json_object_get(theirs, name.c_str()));
}

void compare_elements(std::string_view array, const json_t* theirs) {
    std::size_t index = 0;
    JsonValue element;
    for (JsonElements each(array); each.next(element); ++index)
        compare(element, json_array_get(theirs, index));
    FUZZ_CHECK(index == json_array_size(theirs));
}

void compare(const JsonValue& ours, const json_t* theirs) {
    switch (ours.type) {
        case JsonType::object: FUZZ_CHECK(json_is_object(theirs)); return compare_members(ours.raw, theirs);
        case JsonType::array: FUZZ_CHECK(json_is_array(theirs)); return compare_elements(ours.raw, theirs);
        case JsonType::string:
            FUZZ_CHECK(json_is_string(theirs) && unescape_json(ours.raw) == text_of(theirs));
            return;
        case JsonType::number: {
            const auto integer = parse_json_i64(ours.raw);
            FUZZ_CHECK(integer ? json_is_integer(theirs) && json_integer_value(theirs) == *integer
                               : json_is_real(theirs));
            return;
        }
        case JsonType::boolean:
            FUZZ_CHECK(ours.raw == "true" ? json_is_true(theirs) : json_is_false(theirs));
            return;
        case JsonType::null: FUZZ_CHECK(json_is_null(theirs)); return;
    }
}

void write_and_read(std::string_view text) {
    if (!is_valid_utf8(text)) return;
    std::string literal;
    append_json_string(literal, text);
    FUZZ_CHECK(unescape_json(literal) == text);
    const Tree theirs = judge(literal).tree;
    FUZZ_CHECK(theirs && text_of(theirs.get()) == text);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    write_and_read(text);

    const auto ours = parse_json(text, kDepth);
    if (!ours) FUZZ_CHECK(ours.error().at <= text.size() && !ours.error().what.empty());
    if (text.find('\0') != text.npos) {
        FUZZ_CHECK(!ours);
        return 0;
    }
    const Judgement theirs = judge(text);
    if (theirs.undecided) return 0;
    if (!theirs.tree || !ours) {
        FUZZ_CHECK(!ours && (!theirs.tree || ours.error().what == "deeper than 64 levels"));
        return 0;
    }
    compare(*ours, theirs.tree.get());
    const bool unique = holds_throughout(*ours, [](const JsonValue& value) {
        return value.type != JsonType::object || !find_duplicate_member(value.raw);
    });
    FUZZ_CHECK(unique == (judge(text, JSON_REJECT_DUPLICATES).tree != nullptr));

    std::size_t at = 0;
    const auto first = parse_next_json(text, at, kDepth);
    FUZZ_CHECK(first && first->raw == ours->raw && text.data() + at == ours->raw.data() + ours->raw.size());
    return 0;
}
