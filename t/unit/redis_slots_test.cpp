// The slots of a Redis cluster: the vectors of its specification, and which part of a key counts.
#include <string>
#include <string_view>

#include "store/redis_slots.hpp"

#include "cmocka.hpp"

using rooms::redis_slot;

namespace {

// CRC16/XMODEM a bit at a time, as the specification has it in words.
unsigned crc(std::string_view text) {
    unsigned value = 0;
    for (const char c : text) {
        value ^= static_cast<unsigned>(static_cast<unsigned char>(c)) << 8;
        for (int bit = 0; bit < 8; ++bit) {
            const bool carry = (value & 0x8000) != 0;
            value = (value << 1 & 0xffff) ^ (carry ? 0x1021u : 0u);
        }
    }
    return value;
}

unsigned whole(std::string_view key) { return crc(key) % 16384; }

void the_specifications_vectors_hold(void**) {
    assert_int_equal(crc("123456789"), 0x31C3);
    assert_int_equal(redis_slot("123456789"), 0x31C3 % 16384);
    // What CLUSTER KEYSLOT says.
    assert_int_equal(redis_slot(""), 0);
    assert_int_equal(redis_slot("foo"), 12182);
    assert_int_equal(redis_slot("bar"), 5061);
    assert_int_equal(redis_slot("hello"), 866);
    assert_int_equal(redis_slot("somekey"), 11058);
    assert_int_equal(redis_slot("foo{hash_tag}"), 2515);
}

void keys_without_a_tag_count_whole(void**) {
    std::string key;
    for (int i = 0; i < 300; ++i) {
        key += static_cast<char>(i * 7);
        if (key.find('{') != key.npos) continue;
        assert_int_equal(redis_slot(key), whole(key));
    }
    assert_int_equal(redis_slot("a}b"), whole("a}b"));
    assert_int_equal(redis_slot("}{"), whole("}{"));
    assert_int_equal(redis_slot("a{b"), whole("a{b"));
}

void only_what_is_in_the_first_braces_counts(void**) {
    assert_int_equal(redis_slot("{user1000}.following"), redis_slot("{user1000}.followers"));
    assert_int_equal(redis_slot("{user1000}.following"), whole("user1000"));
    assert_int_equal(redis_slot("{a}{b}"), whole("a"));
    assert_int_equal(redis_slot("foo{bar}{zap}"), whole("bar"));
    assert_int_equal(redis_slot("foo{{bar}}zap"), whole("{bar"));
    assert_int_equal(redis_slot("}a{b}"), whole("b"));
}

void empty_braces_first_and_the_key_counts_whole(void**) {
    for (const std::string_view key : {"{}", "foo{}{bar}", "{}bar", "{}{a}"}) {
        assert_int_equal(redis_slot(key), whole(key));
    }
    assert_int_not_equal(redis_slot("foo{}{bar}"), redis_slot("bar"));
}

void everything_of_a_room_is_in_one_slot(void**) {
    const unsigned slot = redis_slot("rooms:{session:42}");
    assert_int_equal(slot, whole("session:42"));
    for (const std::string_view part :
         {":meta", ":stream", ":at", ":at:9f3a", ":events", ":id:{x}", ":id:}{"}) {
        assert_int_equal(redis_slot("rooms:{session:42}" + std::string(part)), slot);
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(the_specifications_vectors_hold),
        cmocka_unit_test(keys_without_a_tag_count_whole),
        cmocka_unit_test(only_what_is_in_the_first_braces_counts),
        cmocka_unit_test(empty_braces_first_and_the_key_counts_whole),
        cmocka_unit_test(everything_of_a_room_is_in_one_slot),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
