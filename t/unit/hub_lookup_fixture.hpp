// The hub's world (hub_fixture.hpp) with rules that ask somebody else, who is played by the test.
#pragma once

#include <deque>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/lookup.hpp"
#include "hub_fixture.hpp"

namespace hub_test {

class TestLookup final : public Lookup {
public:
    struct Asked {
        std::string text;
        Done done;
    };
    void ask(std::uint32_t rule, std::vector<std::string> values, Done done) override {
        std::string text = std::to_string(rule);
        for (const std::string& value : values) text += ' ' + value;
        ++count;
        if (at_once) return done(*at_once);
        asked.push_back({std::move(text), std::move(done)});
    }
    void answer(Answer answer) {
        assert_false(asked.empty());
        Asked next = std::move(asked.front());
        asked.pop_front();
        next.done(answer);
    }
    std::deque<Asked> asked;
    std::optional<Answer> at_once;
    int count = 0;
};

// `project:*` is decided by asking, with the room's id, the tenant and the user.
struct LookupWorld : World {
    LookupWorld() {
        using Kind = VariableSource::Kind;
        auto pattern = Pattern::compile("project:*", [](std::string_view) { return VariableSource{}; });
        rules.add(*pattern, {{Kind::room_id, 0}, {Kind::claim, 0}, {Kind::user, 0}, {Kind::room, 0}});
        policy.lookup = &lookup;
        policy.max_rooms = 2;
    }
    ~LookupWorld() {
        while (!lookup.asked.empty()) lookup.answer(Lookup::Answer::no);
    }
    void say(Client& client, const std::string& json) { hub.on_message(client, json); }
    void subscribe(Client& client, const std::string& room, const std::string& more = "") {
        say(client, R"({"type":"subscribe","room":")" + room + "\"" + more + "}");
    }
    TestLookup lookup;
};

}  // namespace hub_test
