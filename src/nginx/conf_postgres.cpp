// The directive rooms_postgres: which database.
//
// Its value is never quoted: it may hold the password.
#include <netdb.h>
#include <sys/socket.h>

#include <utility>

#include "nginx/conf_hosts.hpp"
#include "nginx/conf_setters.hpp"
#include "nginx/conf_values.hpp"

namespace rooms {
namespace {

// As libpq takes it in hostaddr.
Result<std::string> address_text(const std::string& host) {
    const auto address = find_address(host);
    if (!address) return address.error();
    char text[NI_MAXHOST];
    const int rc =
        getnameinfo(reinterpret_cast<const sockaddr*>(address->data()),
                    static_cast<socklen_t>(address->size()), text, sizeof text, nullptr, 0, NI_NUMERICHOST);
    if (rc != 0) return Error{"host \"" + host + "\" has no address: " + gai_strerror(rc)};
    return std::string(text);
}

}  // namespace

char* set_postgres(ngx_conf_t* cf, MainConf& conf) {
    if (conf.postgres != nullptr) return duplicate();
    auto target = parse_pg_conninfo(std::string(word(cf, 1)));
    if (!target) return refuse(cf, "the connection string: " + target.error().message);
    for (PgTarget::Server& server : target->servers) {
        if (!server.needs_address()) continue;
        auto address = address_text(server.host);
        if (!address) return refuse(cf, address.error().message);
        server.address = std::move(*address);
    }
    conf.postgres = std::make_unique<PgTarget>(std::move(*target));
    return NGX_CONF_OK;
}

}  // namespace rooms
