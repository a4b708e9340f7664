// A deleter for the objects of C libraries: std::unique_ptr<BIO, Freed<BIO_free>>.
// Holds nothing; what the library's function returns is of no interest.
#pragma once

namespace rooms {

template <auto Free>
struct Freed {
    template <typename T>
    void operator()(T* object) const {
        Free(object);
    }
};

}  // namespace rooms
