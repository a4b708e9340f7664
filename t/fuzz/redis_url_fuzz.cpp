// One URL of Redis. What is accepted is complete; its text is accepted too, names the same servers, and has
// neither user nor password.
#include "store/redis_target.hpp"

#include "fuzz/split.hpp"

using namespace rooms;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view url(reinterpret_cast<const char*>(data), size);
    const auto target = parse_redis_url(url);
    if (!target) {
        FUZZ_CHECK(!target.error().message.empty());
        return 0;
    }
    FUZZ_CHECK(!target->servers.empty());
    FUZZ_CHECK(target->kind != RedisTarget::Kind::single || target->servers.size() == 1);
    FUZZ_CHECK((target->kind == RedisTarget::Kind::sentinel) == !target->master.empty());
    FUZZ_CHECK(target->kind != RedisTarget::Kind::cluster || target->db == 0);
    for (const Address& server : target->servers) {
        FUZZ_CHECK(!server.host.empty() && server.host.find('\0') == server.host.npos);
        FUZZ_CHECK(!server.is_unix() || (server.host.front() == '/' && !server.sockaddr.empty()));
    }

    const std::string text = target->text();
    const auto again = parse_redis_url(text);
    FUZZ_CHECK(again.ok() && again->text() == text);
    FUZZ_CHECK(again->user.empty() && again->password.empty());
    FUZZ_CHECK(again->kind == target->kind && again->tls == target->tls && again->db == target->db);
    FUZZ_CHECK(again->servers.size() == target->servers.size());
    for (std::size_t i = 0; i < again->servers.size(); ++i) {
        FUZZ_CHECK(again->servers[i].same_place(target->servers[i]));
        FUZZ_CHECK(again->servers[i].sockaddr == target->servers[i].sockaddr);
    }
    return 0;
}
