// A value or the reason there is none. Errors are data here: nothing of ours throws.
//
// Error carries a sentence for people (operator, backend developer), without a final full stop
// and without secrets. Code that needs to branch on the kind of failure uses its own enum as E.
#pragma once

#include <string>
#include <utility>
#include <variant>

namespace rooms {

struct Error {
    std::string message;
};

template <typename T, typename E = Error>
class [[nodiscard]] Result {
public:
    Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
    Result(E error) : state_(std::in_place_index<1>, std::move(error)) {}

    [[nodiscard]] bool ok() const { return state_.index() == 0; }
    explicit operator bool() const { return ok(); }

    // REQUIRES: ok().
    T& operator*() { return *std::get_if<0>(&state_); }
    const T& operator*() const { return *std::get_if<0>(&state_); }
    T* operator->() { return std::get_if<0>(&state_); }
    const T* operator->() const { return std::get_if<0>(&state_); }

    // REQUIRES: !ok().
    [[nodiscard]] const E& error() const { return *std::get_if<1>(&state_); }

private:
    std::variant<T, E> state_;
};

}  // namespace rooms
