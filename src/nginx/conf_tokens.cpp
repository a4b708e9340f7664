// The directives rooms_jwt_…: keys, where the token is, and what it must say.
#include "nginx/conf_file.hpp"
#include "nginx/conf_setters.hpp"
#include "nginx/conf_values.hpp"
#include "nginx/pool.hpp"
#include "core/ascii.hpp"
#include "core/jwks.hpp"

namespace rooms {
namespace {

constexpr std::size_t kMaxKeyFile = 64 * 1024;
constexpr std::int64_t kMaxAgeSeconds = std::int64_t{10} * 365 * 86400;

KeySet* keys_of(ngx_conf_t* cf, Level& level) {
    if (level.keys == nullptr) level.keys = make_in_pool<KeySet>(cf->pool);
    return level.keys;
}

char* set_text(ngx_conf_t* cf, std::optional<std::string>& target, const char* what) {
    if (target) return duplicate();
    if (word(cf, 1).empty()) return refuse_value(cf, word(cf, 1), what);
    target = word(cf, 1);
    return NGX_CONF_OK;
}

char* set_words(ngx_conf_t* cf, std::optional<std::vector<std::string>>& target, const char* what) {
    if (target) return duplicate();
    target.emplace();
    for (std::size_t i = 1; i < word_count(cf); ++i) {
        if (word(cf, i).empty()) return refuse_value(cf, word(cf, i), what);
        target->emplace_back(word(cf, i));
    }
    return NGX_CONF_OK;
}

// The names NAME in variables `$arg_NAME` and `${arg_NAME}` of the value; `prefix` is "arg_" here.
std::vector<std::string> names_in(std::string_view value, std::string_view prefix) {
    std::vector<std::string> names;
    for (std::size_t at = value.find('$'); at != value.npos; at = value.find('$', at + 1)) {
        std::string_view rest = value.substr(at + 1);
        if (rest.starts_with('{')) rest.remove_prefix(1);
        std::size_t size = 0;
        while (size < rest.size() && (is_alpha(rest[size]) || is_digit(rest[size]) || rest[size] == '_'))
            ++size;
        const std::string name = lower(rest.substr(0, size));
        if (name.starts_with(prefix) && name.size() > prefix.size())
            names.push_back(name.substr(prefix.size()));
    }
    return names;
}

}  // namespace

char* set_jwt_key(ngx_conf_t* cf, Level& level) {
    const auto algorithm = parse_algorithm(word(cf, 1));
    if (!algorithm) {
        return refuse_value(cf, word(cf, 1), "the algorithm is one of " + std::string(kAlgorithmNames));
    }
    std::string kid;
    if (word_count(cf) == 4) {
        const auto value = parameter(word(cf, 3), "kid=");
        if (!value || !is_kid(*value)) {
            return refuse_value(cf, word(cf, 3),
                                "kid=ID, 1 to " + std::to_string(kMaxKid) +
                                    " printable characters, is what may follow the file");
        }
        kid = *value;
    }
    const auto file = ConfFile::read(cf, word(cf, 2), kMaxKeyFile);
    if (!file) return refuse(cf, file.error().message);
    auto key = Key::from_file_text(*algorithm, file->text(), std::move(kid));
    if (!key) return refuse(cf, "\"" + file->path() + "\": " + key.error().message);
    if (key_family(*algorithm) == KeyFamily::hmac) file->warn_if_readable(cf);
    KeySet* keys = keys_of(cf, level);
    if (keys == nullptr) return conf_error();
    if (const auto fault = keys->add(std::move(*key))) return refuse(cf, fault->message);
    return NGX_CONF_OK;
}

char* set_jwt_jwks(ngx_conf_t* cf, Level& level) {
    const auto file = ConfFile::read(cf, word(cf, 1), kMaxJwksFile);
    if (!file) return refuse(cf, file.error().message);
    auto parsed = parse_jwks(file->text());
    if (!parsed) return refuse(cf, "\"" + file->path() + "\": " + parsed.error().message);
    KeySet* keys = keys_of(cf, level);
    if (keys == nullptr) return conf_error();
    bool secret = false;
    for (Key& key : *parsed) {
        secret = secret || key_family(key.algorithm()) == KeyFamily::hmac;
        if (const auto fault = keys->add(std::move(key))) {
            return refuse(cf, "\"" + file->path() + "\": " + fault->message);
        }
    }
    if (secret) file->warn_if_readable(cf);
    return NGX_CONF_OK;
}

char* set_jwt_token(ngx_conf_t* cf, Level& level) {
    if (level.token) return duplicate();
    if (word(cf, 1).find('$') == std::string_view::npos) {
        return refuse_value(cf, word(cf, 1),
                            "a value with a variable, for example $cookie_token or $arg_jwt");
    }
    TokenSource source;
    source.value =
        static_cast<ngx_http_complex_value_t*>(ngx_pcalloc(cf->pool, sizeof(ngx_http_complex_value_t)));
    if (source.value == nullptr) return conf_error();
    source.arguments = names_in(word(cf, 1), "arg_");

    ngx_http_compile_complex_value_t compile;
    ngx_memzero(&compile, sizeof compile);
    compile.cf = cf;
    compile.value = static_cast<ngx_str_t*>(cf->args->elts) + 1;
    compile.complex_value = source.value;
    if (ngx_http_compile_complex_value(&compile) != NGX_OK) return conf_error();

    auto* main = static_cast<MainConf*>(ngx_http_conf_get_module_main_conf(cf, ngx_http_rooms_module));
    for (const auto& name : source.arguments) main->token_arguments.push_back(name);
    for (auto& name : names_in(word(cf, 1), "http_")) main->token_headers.push_back(std::move(name));
    for (auto& name : names_in(word(cf, 1), "cookie_")) main->token_cookies.push_back(std::move(name));
    level.token = std::move(source);
    return NGX_CONF_OK;
}

char* set_jwt_issuer(ngx_conf_t* cf, Level& level) {
    return set_text(cf, level.issuer, "the value of \"iss\", for example https://login.example.com/");
}

char* set_jwt_audience(ngx_conf_t* cf, Level& level) {
    return set_words(cf, level.audience, "one or more values, of which \"aud\" must have one");
}

char* set_jwt_leeway(ngx_conf_t* cf, Level& level) {
    if (level.leeway_s) return duplicate();
    const auto leeway = parse_seconds(word(cf, 1));
    if (!leeway || *leeway > kMaxLeewaySeconds) {
        return refuse_value(cf, word(cf, 1), "a time from 0s to " + std::to_string(kMaxLeewaySeconds) + "s");
    }
    level.leeway_s = *leeway;
    return NGX_CONF_OK;
}

char* set_jwt_max_age(ngx_conf_t* cf, Level& level) {
    if (level.max_age_s) return duplicate();
    const auto age = parse_seconds(word(cf, 1));
    if (!age || *age == 0 || *age > kMaxAgeSeconds) {
        return refuse_value(cf, word(cf, 1), "a time from 1s to 10y, for example 12h");
    }
    level.max_age_s = *age;
    return NGX_CONF_OK;
}

char* set_jwt_require(ngx_conf_t* cf, Level& level) {
    constexpr char kForm[] = "names of claims, for example exp sub, or only none";
    if (char* fault = set_words(cf, level.required, kForm); fault != NGX_CONF_OK) return fault;
    auto& names = *level.required;
    for (std::size_t i = 0; i < names.size(); ++i) {
        if (names[i] == "none" && names.size() > 1) return refuse_value(cf, "none", kForm);
        for (std::size_t j = 0; j < i; ++j) {
            if (names[i] == names[j]) return refuse_value(cf, names[i], "each claim once");
        }
    }
    if (names.front() == "none") names.clear();
    return NGX_CONF_OK;
}

char* set_jwt_exp_unit(ngx_conf_t* cf, Level& level) {
    if (level.exp_in_ms) return duplicate();
    if (word(cf, 1) != "s" && word(cf, 1) != "ms") return refuse_value(cf, word(cf, 1), "s or ms");
    level.exp_in_ms = word(cf, 1) == "ms";
    return NGX_CONF_OK;
}

char* set_jwt_user_claim(ngx_conf_t* cf, Level& level) {
    return set_text(cf, level.user_claim, "the name of a claim, for example sub");
}

char* set_jwt_rooms_claim(ngx_conf_t* cf, Level& level) {
    return set_text(cf, level.rooms_claim, "the name of a claim, for example rooms");
}

char* set_auth_failure(ngx_conf_t* cf, Level& level) {
    if (level.auth_failure) return duplicate();
    if (word(cf, 1) == "close") {
        level.auth_failure = AuthFailure::close;
    } else if (word(cf, 1) == "http") {
        level.auth_failure = AuthFailure::http;
    } else {
        return refuse_value(cf, word(cf, 1), "close or http");
    }
    return NGX_CONF_OK;
}

}  // namespace rooms
