// The directives that bound one connection: origin, heartbeat, sizes, counts, times.
#include "nginx/conf_setters.hpp"
#include "nginx/conf_values.hpp"
#include "nginx/pool.hpp"
#include "core/origin.hpp"

namespace rooms {
namespace {

constexpr std::size_t kMaxBytes = std::size_t{1} << 30;  // what one connection may ever be allowed to hold
constexpr std::uint32_t kMaxCount = 1000000;

char* set_bytes(ngx_conf_t* cf, std::optional<std::size_t>& target, const char* example) {
    if (target) return duplicate();
    const auto bytes = parse_bytes(word(cf, 1));
    if (!bytes || *bytes == 0 || *bytes > kMaxBytes) {
        return refuse_value(cf, word(cf, 1), std::string("a size from 1 to 1g, for example ") + example);
    }
    target = *bytes;
    return NGX_CONF_OK;
}

std::uint64_t hash_text(std::string_view text, std::uint64_t hash) {  // FNV-1a
    for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
    return hash;
}

#if (NGX_PCRE)
ngx_regex_t* compile_regex(ngx_conf_t* cf, const std::string& text, std::string& why) {
    u_char fault[NGX_MAX_CONF_ERRSTR];
    ngx_regex_compile_t compile;
    ngx_memzero(&compile, sizeof compile);
    // With the zero behind it: nginx' message and PCRE 1 take it as a C string.
    compile.pattern = copy_to_pool(cf->pool, {text.c_str(), text.size() + 1});
    --compile.pattern.len;
    compile.pool = cf->pool;
    compile.options = NGX_REGEX_CASELESS;
    compile.err.len = sizeof fault;
    compile.err.data = fault;
    if (compile.pattern.data != nullptr && ngx_regex_compile(&compile) == NGX_OK) return compile.regex;
    why = compile.pattern.data == nullptr ? "out of memory" : std::string(view(compile.err));
    return nullptr;
}
#endif

char* add_pattern(ngx_conf_t* cf, std::string_view word, OriginRules& origins) {
#if (NGX_PCRE)
    const std::string text(word.substr(1));
    std::string why = "it is empty";
    // Alone first: `a)|(b` is wrong, though between the anchors it would be right.
    if (!text.empty() && compile_regex(cf, text, why) != nullptr) {
        if (ngx_regex_t* regex = compile_regex(cf, "\\A(?:" + text + ")\\z", why)) {
            origins.patterns.push_back(regex);
            return NGX_CONF_OK;
        }
    }
    return refuse_value(cf, word, "~ is followed by a regular expression for whole origins: " + why);
#else
    (void)origins;
    return refuse_value(cf, word, "this nginx was built without PCRE, so only whole origins can be listed");
#endif
}

}  // namespace

char* set_origin(ngx_conf_t* cf, Level& level) {
    if (level.origins != nullptr) return duplicate();
    level.origins = make_in_pool<OriginRules>(cf->pool);
    if (level.origins == nullptr) return conf_error();
    for (std::size_t i = 1; i < word_count(cf); ++i) {
        const std::string_view text = word(cf, i);
        if (text == "any") {
            if (word_count(cf) > 2)
                return refuse_value(cf, text, "it stands alone, for it allows every origin");
            level.origins->any = true;
        } else if (text.starts_with('~')) {
            if (char* fault = add_pattern(cf, text, *level.origins); fault != NGX_CONF_OK) return fault;
        } else if (text == "null" || parse_origin(text)) {
            level.origins->exact.emplace_back(text);
        } else {
            return refuse_value(cf, text,
                                "an origin is SCHEME://HOST[:PORT] without a path, for example "
                                "https://app.example.com; or ~REGEX, or any");
        }
    }
    return NGX_CONF_OK;
}

char* set_heartbeat(ngx_conf_t* cf, Level& level) {
    if (level.heartbeat) return duplicate();
    Heartbeat heartbeat;
    const auto interval = parse_ms(word(cf, 1));
    if (!interval || *interval == 0) return refuse_value(cf, word(cf, 1), "a time, for example 30s");
    heartbeat.interval = *interval;
    if (word_count(cf) == 3) {
        const auto text = parameter(word(cf, 2), "timeout=");
        const auto timeout = text ? parse_ms(*text) : std::nullopt;
        if (!timeout || *timeout == 0)
            return refuse_value(cf, word(cf, 2), "timeout=TIME, for example timeout=10s");
        heartbeat.timeout = *timeout;
    }
    level.heartbeat = heartbeat;
    return NGX_CONF_OK;
}

char* set_max_message(ngx_conf_t* cf, Level& level) { return set_bytes(cf, level.max_message, "64k"); }

char* set_max_rooms(ngx_conf_t* cf, Level& level) {
    if (level.max_rooms) return duplicate();
    const auto count = parse_count(word(cf, 1));
    if (!count || *count == 0 || *count > kMaxCount) {
        return refuse_value(cf, word(cf, 1), "a number from 1 to 1000000, for example 128");
    }
    level.max_rooms = *count;
    return NGX_CONF_OK;
}

char* set_rate(ngx_conf_t* cf, Level& level) {
    if (level.rate) return duplicate();
    const std::string_view text = word(cf, 1);
    const std::size_t slash = text.find('/');
    const auto count = parse_count(text.substr(0, slash));
    const auto window = parse_ms(slash == text.npos ? std::string_view() : text.substr(slash + 1));
    if (!count || *count == 0 || !window || *window == 0) {
        return refuse_value(cf, text, "MESSAGES/TIME, for example 60/10s");
    }
    level.rate = RateLimit{*count, *window};
    return NGX_CONF_OK;
}

char* set_send_queue(ngx_conf_t* cf, Level& level) { return set_bytes(cf, level.send_queue, "1m"); }

char* set_max_connections(ngx_conf_t* cf, Level& level) {
    ConnectionLimit limit;
    const auto max = parse_count(word(cf, 1));
    if (!max || *max == 0) return refuse_value(cf, word(cf, 1), "a number of connections, 1 or more");
    limit.max = *max;
    limit.id = hash_text(word(cf, 1), 0xcbf29ce484222325);
    if (word_count(cf) == 3) {
        auto value = parameter(word(cf, 2), "per=$");
        if (value && value->starts_with('{') && value->ends_with('}')) {
            value = value->substr(1, value->size() - 2);
        }
        if (!value || value->empty()) {
            return refuse_value(cf, word(cf, 2), "per=$VARIABLE, for example per=$rooms_user");
        }
        const auto index = use_variable(cf, *value, "rooms_max_connections", place_of(cf));
        if (!index) return conf_error();
        limit.variable = *index;
        limit.id = hash_text(lower(word(cf, 2)), hash_text(" ", limit.id));
    }
    if (level.connection_limits == nullptr) {
        level.connection_limits = make_in_pool<std::vector<ConnectionLimit>>(cf->pool);
        if (level.connection_limits == nullptr) return conf_error();
    }
    for (const auto& other : *level.connection_limits) {
        if (other.variable == limit.variable) return duplicate();
    }
    level.connection_limits->push_back(limit);
    return NGX_CONF_OK;
}

char* set_compression(ngx_conf_t* cf, Level& level) {
    if (level.compression) return duplicate();
    Compression compression;
    if (word(cf, 1) != "on" && word(cf, 1) != "off") return refuse_value(cf, word(cf, 1), "on or off");
    compression.on = word(cf, 1) == "on";
    bool seen_min = false;
    bool seen_level = false;
    for (std::size_t i = 2; i < word_count(cf); ++i) {
        if (const auto text = parameter(word(cf, i), "min=")) {
            const auto min = parse_bytes(*text);
            if (!min || seen_min) return refuse_value(cf, word(cf, i), "one min=SIZE, for example min=256");
            compression.min = *min;
            seen_min = true;
        } else if (const auto number = parameter(word(cf, i), "level=")) {
            const auto value = parse_count(*number);
            if (!value || *value < 1 || *value > 9 || seen_level) {
                return refuse_value(cf, word(cf, i), "one level=N with N from 1 to 9");
            }
            compression.level = static_cast<int>(*value);
            seen_level = true;
        } else {
            return refuse_value(cf, word(cf, i), "after on or off come only min=SIZE and level=N");
        }
    }
    level.compression = compression;
    return NGX_CONF_OK;
}

char* set_drain(ngx_conf_t* cf, Level& level) {
    if (level.drain) return duplicate();
    const auto time = parse_ms(word(cf, 1));
    if (!time) return refuse_value(cf, word(cf, 1), "a time, for example 3s");
    level.drain = *time;
    return NGX_CONF_OK;
}

char* set_access_log(ngx_conf_t* cf, Level& level) {
    if (level.access_log) return duplicate();
    if (word(cf, 1) == "end") {
        level.access_log = AccessLog::end;
    } else if (word(cf, 1) == "upgrade") {
        level.access_log = AccessLog::upgrade;
    } else {
        return refuse_value(cf, word(cf, 1), "end or upgrade");
    }
    return NGX_CONF_OK;
}

}  // namespace rooms
