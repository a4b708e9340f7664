// The directives about rooms: the zone, history, claims with names of their own, who may join.
//
// Patterns are read twice: for their form where they stand, and again when every level is complete,
// because a variable may be declared further down in the file.
#include "nginx/conf_setters.hpp"
#include "nginx/conf_values.hpp"
#include "nginx/pool.hpp"
#include "nginx/variables.hpp"
#include "core/ascii.hpp"
#include "store/zone.hpp"

namespace rooms {
namespace {

constexpr std::size_t kMaxZone = std::size_t{64} << 30;

// Before the zone proper come nginx's slab header and the rounding to pages.
std::size_t min_zone_size() {
    constexpr std::size_t kStep = 64 * 1024;
    return (Zone::min_size() + 2 * ngx_pagesize + kStep - 1) / kStep * kStep;
}

bool is_variable_name(std::string_view text) {
    for (const char c : text) {
        if (!is_alpha(c) && !is_digit(c) && c != '_') return false;
    }
    return !text.empty() && !is_digit(text.front());
}

std::string upper_case_fault(std::string_view name) {
    return "\"$" + std::string(name) +
           "\" cannot work, for nginx folds the names of variables to lower case: write \"rooms_claim "
           "$NAME " +
           std::string(name.substr(kClaimPrefix.size())) + ";\" in http{} and use $NAME";
}

bool has_upper_case(std::string_view text) { return lower(text) != text; }

std::optional<VariableSource> room_part(std::string_view name) {
    if (name == "rooms_room") return VariableSource{VariableSource::Kind::room, 0};
    if (name == "rooms_room_kind") return VariableSource{VariableSource::Kind::room_kind, 0};
    if (name == "rooms_room_id") return VariableSource{VariableSource::Kind::room_id, 0};
    return std::nullopt;
}

// Whether the form is right; what the variables are is not known yet.
struct FirstResolver {
    std::optional<VariableSource> operator()(std::string_view name) {
        const std::string folded = lower(name);
        if (const auto part = room_part(folded)) return part;
        if (folded.starts_with(kClaimPrefix) && has_upper_case(name.substr(kClaimPrefix.size()))) {
            fault = upper_case_fault(name);
        }
        return VariableSource{};
    }
    std::string fault;
};

char* add_pattern(ngx_conf_t* cf, std::vector<PatternText>& patterns, Pattern::Star star) {
    FirstResolver resolver;
    const std::string& fault = resolver.fault;
    const auto pattern = Pattern::compile(word(cf, 1), std::ref(resolver), star);
    if (!fault.empty()) return refuse(cf, fault);
    if (!pattern) return refuse(cf, pattern.error().message);
    for (const auto& other : patterns) {
        if (other.text == word(cf, 1)) return duplicate();
    }
    patterns.push_back({std::string(word(cf, 1)), place_of(cf), {}, {}, {}});
    return NGX_CONF_OK;
}

// Gives indices to the claims and variables that a level's patterns name.
class Resolver {
public:
    Resolver(ngx_conf_t* cf, const MainConf& main, RoomRules& rules) : cf_(cf), main_(main), rules_(rules) {}

    std::optional<VariableSource> find(std::string_view written, const char* directive, const Place& place) {
        using Kind = VariableSource::Kind;
        const std::string name = lower(written);
        if (const auto part = room_part(name)) return part;
        if (name == "rooms_user") return VariableSource{Kind::user, 0};
        for (const auto& claim : main_.claims) {
            if (claim->name == name)
                return VariableSource{Kind::claim, index_of(rules_.claim_paths, claim->path)};
        }
        if (name.starts_with(kClaimPrefix) && name.size() > kClaimPrefix.size()) {
            const std::vector<std::string> path = {name.substr(kClaimPrefix.size())};
            return VariableSource{Kind::claim, index_of(rules_.claim_paths, path)};
        }
        const auto index = use_variable(cf_, name, directive, place);
        if (!index) return std::nullopt;
        return VariableSource{Kind::captured, index_of(rules_.captured, *index)};
    }

private:
    template <typename T>
    static std::uint32_t index_of(std::vector<T>& list, const T& item) {
        std::size_t index = 0;
        while (index < list.size() && list[index] != item) ++index;
        if (index == list.size()) list.push_back(item);
        return static_cast<std::uint32_t>(index);
    }

    ngx_conf_t* cf_;
    const MainConf& main_;
    RoomRules& rules_;
};

bool variable_exists(const ngx_http_core_main_conf_t& core, const std::string& name) {
    const auto* keys = static_cast<const ngx_hash_key_t*>(core.variables_keys->keys.elts);
    for (ngx_uint_t i = 0; i < core.variables_keys->keys.nelts; ++i) {
        if (view(keys[i].key) == name) return true;
    }
    const auto* prefixes = static_cast<const ngx_http_variable_t*>(core.prefix_variables.elts);
    for (ngx_uint_t i = 0; i < core.prefix_variables.nelts; ++i) {
        // Nothing behind the prefix, as in $rooms_claim_, names nothing.
        const std::string_view prefix = view(prefixes[i].name);
        if (name.size() > prefix.size() && name.starts_with(prefix)) return true;
    }
    return false;
}

// Other modules fold a name before anybody sees it, so the text of the files is looked at. nginx keeps
// it for `nginx -T`, and always in builds with --with-debug, as distributions have.
bool check_case(ngx_conf_t* cf) {
    const auto* files = static_cast<const ngx_conf_dump_t*>(cf->cycle->config_dump.elts);
    for (ngx_uint_t f = 0; f < cf->cycle->config_dump.nelts; ++f) {
        const ngx_buf_t* buffer = files[f].buffer;
        const std::string_view text(reinterpret_cast<const char*>(buffer->pos),
                                    static_cast<std::size_t>(buffer->last - buffer->pos));
        ngx_uint_t line = 1;
        bool comment = false;
        for (std::size_t i = 0; i < text.size(); ++i) {
            if (text[i] == '\n') {
                ++line;
                comment = false;
            } else if (text[i] == '#' && (i == 0 || std::string_view(" \t\r\n;{}").find(text[i - 1]) !=
                                                        std::string_view::npos)) {
                comment = true;
            }
            if (comment || text[i] != '$') continue;
            std::string_view rest = text.substr(i + 1);
            if (rest.starts_with('{')) rest.remove_prefix(1);
            std::size_t size = 0;
            while (size < rest.size() && (is_alpha(rest[size]) || is_digit(rest[size]) || rest[size] == '_'))
                ++size;
            const std::string_view name = rest.substr(0, size);
            if (!name.starts_with(kClaimPrefix) || !has_upper_case(name)) continue;
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0, "%s in %V:%ui", upper_case_fault(name).c_str(),
                          &files[f].name, line);
            return false;
        }
    }
    return true;
}

std::string lookup_fault(const PatternText& pattern, const std::string& message) {
    return std::string(pattern.sql ? "sql=" : "request=") + ": " + message;
}

Result<LookupRule> compile_lookup(const PatternText& pattern, const VariableResolver& resolve) {
    auto text = pattern.sql ? compile_sql(*pattern.sql, resolve) : compile_uri(*pattern.request, resolve);
    if (!text) return Error{lookup_fault(pattern, text.error().message)};
    LookupRule lookup;
    lookup.text = std::move(*text);
    if (pattern.cache) lookup.cache = *pattern.cache;
    if (!pattern.sql) {
        lookup.kind = LookupRule::Kind::request;
        return lookup;
    }
    lookup.sql = sql_text(lookup.text);
    // Equal texts are one statement: several levels compile what they inherit.
    lookup.name = "allow_" + std::to_string(std::hash<std::string>()(lookup.sql));
    return lookup;
}

// What stands behind the pattern of rooms_allow.
char* read_lookup(ngx_conf_t* cf, PatternText& pattern) {
    for (std::size_t i = 2; i < word_count(cf); ++i) {
        if (const auto sql = parameter(word(cf, i), "sql=")) {
            if (pattern.sql) return refuse(cf, "\"sql=\" is duplicate");
            pattern.sql = *sql;
        } else if (const auto request = parameter(word(cf, i), "request=")) {
            if (pattern.request) return refuse(cf, "\"request=\" is duplicate");
            pattern.request = *request;
        } else if (const auto time = parameter(word(cf, i), "cache=")) {
            if (pattern.cache) return refuse(cf, "\"cache=\" is duplicate");
            pattern.cache = parse_ms(*time);
            if (!pattern.cache) return refuse_value(cf, word(cf, i), "a time, for example cache=30s");
        } else {
            return refuse_value(cf, word(cf, i),
                                "behind the pattern come only \"sql=STATEMENT\", request=URI and cache=TIME");
        }
    }
    if (pattern.sql && pattern.request) return refuse(cf, "\"sql=\" and \"request=\" exclude each other");
    if (pattern.cache && !pattern.sql && !pattern.request)
        return refuse(cf, "\"cache=\" keeps what \"sql=\" or \"request=\" answer: there is neither");
    if (!pattern.sql && !pattern.request) return NGX_CONF_OK;
    FirstResolver resolver;
    const auto lookup = compile_lookup(pattern, std::ref(resolver));
    if (!resolver.fault.empty()) return refuse(cf, resolver.fault);
    if (!lookup) return refuse(cf, lookup.error().message);
    return NGX_CONF_OK;
}

}  // namespace

std::optional<ngx_int_t> use_variable(ngx_conf_t* cf, std::string_view name, const char* directive,
                                      const Place& place) {
    ngx_str_t text = ngx_view(name);
    const ngx_int_t index = ngx_http_get_variable_index(cf, &text);
    if (index == NGX_ERROR) return std::nullopt;
    auto* main = static_cast<MainConf*>(ngx_http_conf_get_module_main_conf(cf, ngx_http_rooms_module));
    main->used_variables.push_back({lower(name), directive, place});
    return index;
}

bool check_variables(ngx_conf_t* cf, const MainConf& main) {
    const auto* core = static_cast<const ngx_http_core_main_conf_t*>(
        ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module));
    for (const auto& used : main.used_variables) {
        if (variable_exists(*core, used.name)) continue;
        refuse_at(cf, used.place, used.directive, "unknown variable \"$" + used.name + "\"");
        return false;
    }
    return check_case(cf);
}

char* compile_rules(ngx_conf_t* cf, Level& level) {
    auto* main = static_cast<MainConf*>(ngx_http_conf_get_module_main_conf(cf, ngx_http_rooms_module));
    level.rules = make_in_pool<RoomRules>(cf->pool);
    if (level.rules == nullptr) return conf_error();
    Resolver resolver(cf, *main, *level.rules);
    const auto compile = [&](const PatternText& pattern, const char* directive, Pattern::Star star) {
        return Pattern::compile(
            pattern.text,
            [&](std::string_view name) { return resolver.find(name, directive, pattern.place); }, star);
    };
    for (const auto& pattern : level.allow) {
        auto compiled = compile(pattern, "rooms_allow", Pattern::Star::allowed);
        if (!compiled) return refuse_at(cf, pattern.place, "rooms_allow", compiled.error().message);
        level.rules->lookups.push_back(nullptr);
        if (!pattern.sql && !pattern.request) {
            level.rules->allow.add(std::move(*compiled));
            continue;
        }
        auto lookup = compile_lookup(pattern, [&](std::string_view name) {
            return resolver.find(name, "rooms_allow", pattern.place);
        });
        if (!lookup) return refuse_at(cf, pattern.place, "rooms_allow", lookup.error().message);
        level.rules->allow.add(std::move(*compiled), lookup->text.parameters);
        level.rules->lookups.back() = std::make_unique<LookupRule>(std::move(*lookup));
        if (pattern.sql) {
            main->sql_rule = pattern.place;
            main->sql_rules.push_back(level.rules->lookups.back().get());
        }
        if (pattern.request) main->request_rules = true;
    }
    for (const auto& pattern : level.joins) {
        auto compiled = compile(pattern, "rooms_join", Pattern::Star::refused);
        if (!compiled) return refuse_at(cf, pattern.place, "rooms_join", compiled.error().message);
        level.rules->joins.push_back(std::move(*compiled));
    }
    return NGX_CONF_OK;
}

char* set_zone(ngx_conf_t* cf, MainConf& conf) {
    if (conf.zone_size != 0) return duplicate();
    const std::string_view text = word(cf, 1);
    const std::size_t colon = text.find(':');
    const auto size = colon == text.npos ? std::nullopt : parse_bytes(text.substr(colon + 1));
    const std::size_t min = min_zone_size();
    if (colon == 0 || !size || *size < min || *size > kMaxZone) {
        return refuse_value(
            cf, text,
            "NAME:SIZE with a size from " + std::to_string(min / 1024) + "k to 64g, for example rooms:32m");
    }
    conf.zone_name = copy_to_pool(cf->pool, text.substr(0, colon));
    if (conf.zone_name.data == nullptr) return conf_error();
    conf.zone_size = *size;
    return NGX_CONF_OK;
}

char* set_history(ngx_conf_t* cf, MainConf& conf) {
    HistoryRule rule;
    rule.pattern = word(cf, 1);
    bool seen_size = false;
    bool seen_ttl = false;
    for (std::size_t i = 2; i < word_count(cf); ++i) {
        if (const auto text = parameter(word(cf, i), "size=")) {
            const auto size = parse_count(*text);
            if (!size || seen_size)
                return refuse_value(cf, word(cf, i), "one size=N, a number of publications");
            rule.size = *size;
            seen_size = true;
        } else if (const auto time = parameter(word(cf, i), "ttl=")) {
            const auto ttl = parse_ms(*time);
            if (!ttl || *ttl == 0 || seen_ttl) {
                return refuse_value(cf, word(cf, i), "one ttl=TIME, for example ttl=5m");
            }
            rule.ttl_ms = *ttl;
            seen_ttl = true;
        } else {
            return refuse_value(cf, word(cf, i), "after the pattern come size=N and ttl=TIME");
        }
    }
    for (const auto& other : conf.history_patterns) {
        if (other == rule.pattern) return duplicate();
    }
    conf.history_patterns.push_back(rule.pattern);
    if (const auto fault = conf.history.add(std::move(rule))) return refuse(cf, fault->message);
    return NGX_CONF_OK;
}

char* set_claim(ngx_conf_t* cf, MainConf& conf) {
    const auto name = parameter(word(cf, 1), "$");
    if (!name || !is_variable_name(*name)) {
        return refuse_value(cf, word(cf, 1), "the name of a variable, for example $tenant");
    }
    if (room_part(lower(*name))) {
        return refuse_value(cf, word(cf, 1),
                            "a name that rooms_allow has no meaning for, for example $tenant");
    }
    auto claim = std::make_unique<ClaimVariable>();
    claim->name = lower(*name);
    for (std::size_t i = 2; i < word_count(cf); ++i) {
        if (word(cf, i).empty())
            return refuse_value(cf, word(cf, i), "the name of a claim, for example tenantId");
        claim->path.emplace_back(word(cf, i));
    }
    for (const auto& other : conf.claims) {
        if (other->name == claim->name) return duplicate();
    }
    if (!add_claim_variable(cf, *claim)) return conf_error();
    conf.claims.push_back(std::move(claim));
    return NGX_CONF_OK;
}

char* set_allow(ngx_conf_t* cf, Level& level) {
    if (char* fault = add_pattern(cf, level.allow, Pattern::Star::allowed); fault != NGX_CONF_OK)
        return fault;
    return read_lookup(cf, level.allow.back());
}

char* set_join(ngx_conf_t* cf, Level& level) { return add_pattern(cf, level.joins, Pattern::Star::refused); }

}  // namespace rooms
