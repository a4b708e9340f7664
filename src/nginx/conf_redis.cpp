// The directive rooms_redis: which servers, how to log in, whom to trust.
//
// The URL is never quoted: it may hold the password.
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <cstring>
#include <utility>

#include "nginx/conf_file.hpp"
#include "nginx/conf_hosts.hpp"
#include "nginx/conf_setters.hpp"
#include "nginx/conf_values.hpp"

namespace rooms {
namespace {

using Kind = RedisTarget::Kind;

constexpr std::size_t kMaxPasswordFile = 4096;
constexpr char kForm[] =
    "behind the URL come only prefix=NAME, user=NAME, password_file=FILE, db=N and ca=FILE";

// What stood behind the URL, each at most once.
struct Words {
    std::optional<std::string_view> prefix;
    std::optional<std::string_view> user;
    std::optional<std::string_view> password_file;
    std::optional<std::string_view> db;
    std::optional<std::string_view> ca;
};

char* read_words(ngx_conf_t* cf, Words& words) {
    const struct {
        std::string_view name;
        std::optional<std::string_view>& value;
    } known[] = {{"prefix=", words.prefix},
                 {"user=", words.user},
                 {"password_file=", words.password_file},
                 {"db=", words.db},
                 {"ca=", words.ca}};
    for (std::size_t i = 2; i < word_count(cf); ++i) {
        bool found = false;
        for (const auto& each : known) {
            const auto value = parameter(word(cf, i), each.name);
            if (!value) continue;
            if (each.value) return refuse(cf, "\"" + std::string(each.name) + "\" is duplicate");
            each.value = value;
            found = true;
        }
        if (found) continue;
        // Not quoted, for people try password=.
        if (word(cf, i).starts_with("password="))
            return refuse(cf, "the password stands in the URL, or in the file of password_file=FILE");
        return refuse(cf, kForm);
    }
    return NGX_CONF_OK;
}

char* read_password(ngx_conf_t* cf, std::string_view name, RedisTarget& target) {
    if (!target.password.empty()) return refuse(cf, "it has a password in its URL and a \"password_file=\"");
    const auto file = ConfFile::read(cf, name, kMaxPasswordFile);
    if (!file) return refuse(cf, "\"password_file=\" " + file.error().message);
    std::string_view line = file->text();
    if (line.ends_with('\n')) line.remove_suffix(1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || line.find('\n') != line.npos)
        return refuse(cf,
                      "\"" + file->path() + "\": the password is one line, and nothing else is in the file");
    file->warn_if_readable(cf);
    target.password = line;
    return NGX_CONF_OK;
}

char* read_login(ngx_conf_t* cf, const Words& words, RedisTarget& target) {
    if (words.user) {
        if (!target.user.empty()) return refuse(cf, "it has a user in its URL and a \"user=\"");
        if (words.user->empty()) return refuse_value(cf, "user=", "user=NAME, for example user=rooms");
        target.user = *words.user;
    }
    if (words.password_file) {
        char* done = read_password(cf, *words.password_file, target);
        if (done != NGX_CONF_OK) return done;
    }
    if (!target.user.empty() && target.password.empty()) {
        return refuse(cf,
                      "a user needs a password: in the URL, or in the file of password_file=FILE; a password "
                      "alone is written redis://:PASSWORD@HOST");
    }
    return NGX_CONF_OK;
}

char* read_db(ngx_conf_t* cf, std::string_view text, RedisTarget& target) {
    const auto db = parse_count(text);
    if (!db) return refuse_value(cf, text, "db=N, the number of a database");
    if (target.kind == Kind::cluster) return refuse(cf, "a cluster has only database 0: without \"db=\"");
    if (target.db != 0) return refuse(cf, "it has a database in its URL and a \"db=\"");
    target.db = *db;
    return NGX_CONF_OK;
}

char* find_addresses(ngx_conf_t* cf, RedisTarget& target) {
    for (Address& server : target.servers) {
        if (!server.sockaddr.empty()) continue;
        auto found = find_address(server.host);
        if (!found) return refuse(cf, found.error().message);
        server.sockaddr = std::move(*found);
        ngx_inet_set_port(reinterpret_cast<sockaddr*>(server.sockaddr.data()), server.port);
    }
    return NGX_CONF_OK;
}

#if (NGX_SSL)

std::string ssl_fault() {
    const unsigned long first = ERR_peek_error();
    const char* reason =
        ERR_SYSTEM_ERROR(first) ? std::strerror(ERR_GET_REASON(first)) : ERR_reason_error_string(first);
    std::string result = reason != nullptr ? reason : "no certificate is in it";
    ERR_clear_error();
    return result;
}

char* trust(ngx_conf_t* cf, SSL_CTX* context, const std::optional<std::string_view>& ca) {
    if (!ca) {
        if (SSL_CTX_set_default_verify_paths(context) != 1)
            return refuse(cf, "the system's certificates of authorities: " + ssl_fault());
        return NGX_CONF_OK;
    }
    if (ca->empty()) return refuse_value(cf, "ca=", "ca=FILE, a PEM file with certificates of authorities");
    ngx_str_t path = copy_to_pool(cf->pool, std::string(*ca) + '\0');  // opened as a C string below
    if (path.data == nullptr) return conf_error();
    --path.len;
    if (ngx_conf_full_name(cf->cycle, &path, 1) != NGX_OK) return conf_error();
    if (SSL_CTX_load_verify_file(context, reinterpret_cast<const char*>(path.data)) != 1)
        return refuse(cf, "\"ca=\" cannot read \"" + std::string(view(path)) + "\": " + ssl_fault());
    ERR_clear_error();
    return NGX_CONF_OK;
}

char* make_context(ngx_conf_t* cf, const std::optional<std::string_view>& ca, MainConf& conf) {
    constexpr int kDepth = 4;
    auto* ssl = static_cast<ngx_ssl_t*>(ngx_pcalloc(cf->pool, sizeof(ngx_ssl_t)));
    if (ssl == nullptr) return conf_error();
    ssl->log = cf->log;
    if (ngx_ssl_create(ssl, NGX_SSL_TLSv1_2 | NGX_SSL_TLSv1_3, nullptr) != NGX_OK) return conf_error();
    ngx_pool_cleanup_t* cleanup = ngx_pool_cleanup_add(cf->pool, 0);
    if (cleanup == nullptr) {
        ngx_ssl_cleanup_ctx(ssl);
        return conf_error();
    }
    cleanup->handler = ngx_ssl_cleanup_ctx;
    cleanup->data = ssl;
    SSL_CTX_set_verify(ssl->ctx, SSL_VERIFY_PEER, nullptr);
    SSL_CTX_set_verify_depth(ssl->ctx, kDepth);
    conf.redis_ssl = ssl;
    return trust(cf, ssl->ctx, ca);
}

#else

char* make_context(ngx_conf_t* cf, const std::optional<std::string_view>&, MainConf&) {
    return refuse(cf, "this nginx was built without SSL: only servers without TLS can be used");
}

#endif

}  // namespace

char* set_redis(ngx_conf_t* cf, MainConf& conf) {
    if (conf.redis != nullptr) return duplicate();
    auto parsed = parse_redis_url(word(cf, 1));
    if (!parsed) return refuse(cf, "the URL: " + parsed.error().message);
    RedisTarget& target = *parsed;
    Words words;
    if (char* fault = read_words(cf, words); fault != NGX_CONF_OK) return fault;
    if (words.prefix) {
        if (!is_redis_prefix(*words.prefix)) {
            return refuse_value(cf, *words.prefix,
                                "a prefix is 1 to 64 letters, digits and _.:-, for example prefix=rooms");
        }
        target.prefix = *words.prefix;
    }
    if (char* fault = read_login(cf, words, target); fault != NGX_CONF_OK) return fault;
    if (words.db) {
        if (char* fault = read_db(cf, *words.db, target); fault != NGX_CONF_OK) return fault;
    }
    if (words.ca && target.kind == Kind::single && !target.tls) {
        return refuse(cf, target.servers.front().is_unix()
                              ? "a unix socket has no TLS: without \"ca=\""
                              : "\"ca=\" needs TLS: the URL begins with rediss:// for that");
    }
    target.tls = target.tls || words.ca;
    if (target.tls) {
        if (char* fault = make_context(cf, words.ca, conf); fault != NGX_CONF_OK) return fault;
    }
    if (char* fault = find_addresses(cf, target); fault != NGX_CONF_OK) return fault;
    conf.redis = std::make_unique<RedisTarget>(std::move(target));
    return NGX_CONF_OK;
}

}  // namespace rooms
