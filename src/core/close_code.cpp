// Which close codes a peer may send: RFC 6455 section 7.4 and IANA's registry, which has since
// taken 1012 to 1014.
#include "core/close_code.hpp"

namespace rooms {

bool may_be_received(std::uint16_t code) {
    if (code >= 3000) return code <= 4999;
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014);
}

}  // namespace rooms
