// What a rule does not decide by itself: `rooms_allow PATTERN "sql=…"` and `request=URI` ask somebody else.
//
// One for each location. Implemented by the glue, which keeps what has been answered for a while; the Hub
// asks, and takes its answer for the state of things at that moment.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace rooms {

class Lookup {
public:
    enum class Answer : std::uint8_t {
        yes,
        no,
        unavailable,  // nobody may enter for that, and trying again may help
    };
    using Done = std::function<void(Answer)>;

    // `values`: of the rule's parameters, in order (RuleSet::parameters). `done` runs in the call or later,
    // exactly once unless this is destroyed first; it must not throw. Throws std::bad_alloc, and then `done` is not run.
    virtual void ask(std::uint32_t rule, std::vector<std::string> values, Done done) = 0;

protected:
    ~Lookup() = default;
};

}  // namespace rooms
