// None is cached by nginx: a location's keys decide, and the location of a request may change.
#include "nginx/variables.hpp"

#include <algorithm>

#include "nginx/guard.hpp"
#include "nginx/request_state.hpp"
#include "nginx/version.hpp"

namespace rooms {
namespace {

using Value = ngx_http_variable_value_t;

ngx_int_t set_none(Value* v) {
    v->valid = 0;
    v->not_found = 1;
    return NGX_OK;
}

void set_view(Value* v, const ngx_str_t& text) {
    v->data = text.data;
    v->len = static_cast<unsigned>(text.len);
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;
}

ngx_int_t set_copy(ngx_http_request_t* r, Value* v, std::string_view text) {
    const bool clean = std::none_of(text.begin(), text.end(),
                                    [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
    if (text.empty() || !clean) return set_none(v);
    const ngx_str_t copy = copy_to_pool(r->pool, text);
    if (copy.data == nullptr) return NGX_ERROR;
    set_view(v, copy);
    return NGX_OK;
}

ngx_int_t set_number(ngx_http_request_t* r, Value* v, std::uint64_t number) {
    return set_copy(r, v, std::to_string(number));
}

// `name`: of the variable. `find(claims)` gives its value, if it has one.
template <typename Find>
ngx_int_t claim_value(ngx_http_request_t* r, Value* v, std::string_view name, Find&& find) {
    return guarded(r->connection->log, ngx_int_t{NGX_ERROR}, [&]() -> ngx_int_t {
        if (verify_request(r) != TokenVerdict::accepted) return set_none(v);
        const RequestState* state = find_request_state(r);
        if (state == nullptr) return set_none(v);
        if (state->handshake && state->handshake->claims) {
            return set_copy(r, v, find(*state->handshake->claims).value_or(std::string()));
        }
        for (const auto& [kept, value] : state->kept) {
            if (kept != name) continue;
            set_view(v, value);
            return NGX_OK;
        }
        return set_none(v);
    });
}

constexpr std::string_view kUser = "rooms_user";

ngx_int_t get_user(ngx_http_request_t* r, Value* v, uintptr_t) {
    return claim_value(r, v, kUser,
                       [](const Claims& claims) { return std::optional<std::string>(claims.user_id()); });
}

// $rooms_claim_NAME; data is the variable's whole name.
ngx_int_t get_claim(ngx_http_request_t* r, Value* v, uintptr_t data) {
    const std::string_view name = view(*reinterpret_cast<const ngx_str_t*>(data));
    return claim_value(r, v, name,
                       [&](const Claims& claims) { return claims.text(name.substr(kClaimPrefix.size())); });
}

// A variable of rooms_claim.
ngx_int_t get_declared_claim(ngx_http_request_t* r, Value* v, uintptr_t data) {
    const auto& claim = *reinterpret_cast<const ClaimVariable*>(data);
    return claim_value(r, v, claim.name, [&](const Claims& claims) { return claims.text(claim.path); });
}

const RequestState* state_of_socket(ngx_http_request_t* r) {
    if (r->main->headers_out.status != NGX_HTTP_SWITCHING_PROTOCOLS) return nullptr;
    return find_request_state(r);
}

ngx_int_t get_close_code(ngx_http_request_t* r, Value* v, uintptr_t) {
    const RequestState* state = state_of_socket(r);
    return state == nullptr || state->close_code == 0 ? set_none(v) : set_number(r, v, state->close_code);
}

ngx_int_t get_messages_in(ngx_http_request_t* r, Value* v, uintptr_t) {
    const RequestState* state = state_of_socket(r);
    return state == nullptr ? set_none(v) : set_number(r, v, state->messages_in);
}

ngx_int_t get_messages_out(ngx_http_request_t* r, Value* v, uintptr_t) {
    const RequestState* state = state_of_socket(r);
    return state == nullptr ? set_none(v) : set_number(r, v, state->messages_out);
}

ngx_int_t get_joined(ngx_http_request_t* r, Value* v, uintptr_t) {
    const RequestState* state = state_of_socket(r);
    return state == nullptr ? set_none(v) : set_number(r, v, state->joined);
}

ngx_int_t get_version(ngx_http_request_t*, Value* v, uintptr_t) {
    set_view(v, ngx_view(kVersion));
    return NGX_OK;
}

constexpr ngx_uint_t kFresh = NGX_HTTP_VAR_NOCACHEABLE;

// clang-format off
ngx_http_variable_t kVariables[] = {
    {ngx_string("rooms_user"), nullptr, get_user, 0, kFresh, 0},
    {ngx_string("rooms_claim_"), nullptr, get_claim, 0, kFresh | NGX_HTTP_VAR_PREFIX, 0},
    {ngx_string("rooms_close_code"), nullptr, get_close_code, 0, kFresh, 0},
    {ngx_string("rooms_messages_in"), nullptr, get_messages_in, 0, kFresh, 0},
    {ngx_string("rooms_messages_out"), nullptr, get_messages_out, 0, kFresh, 0},
    {ngx_string("rooms_joined"), nullptr, get_joined, 0, kFresh, 0},
    {ngx_string("rooms_version"), nullptr, get_version, 0, 0, 0},
};
// clang-format on

// The name under which claim_value keeps the variable; empty: it is none made of claims.
std::string_view claim_name(const ngx_http_variable_t& variable) {
    if (variable.get_handler == get_user) return kUser;
    if (variable.get_handler == get_claim || variable.get_handler == get_declared_claim)
        return view(variable.name);
    return {};
}

}  // namespace

bool add_claim_variable(ngx_conf_t* cf, ClaimVariable& claim) {
    ngx_str_t name = ngx_view(claim.name);
    ngx_http_variable_t* variable = ngx_http_add_variable(cf, &name, kFresh);
    if (variable == nullptr) return false;
    variable->get_handler = get_declared_claim;
    variable->data = reinterpret_cast<uintptr_t>(&claim);
    return true;
}

ngx_int_t add_variables(ngx_conf_t* cf) {
    for (ngx_http_variable_t& ours : kVariables) {
        ngx_http_variable_t* variable = ngx_http_add_variable(cf, &ours.name, ours.flags);
        if (variable == nullptr) return NGX_ERROR;
        variable->get_handler = ours.get_handler;
        variable->data = ours.data;
    }
    return NGX_OK;
}

void keep_claim_variables(ngx_http_request_t* r) {
    guarded(r->connection->log, false, [&] {
        RequestState* state = find_request_state(r);
        if (state == nullptr || !state->handshake || !state->handshake->claims) return true;
        const auto* core = static_cast<const ngx_http_core_main_conf_t*>(
            ngx_http_get_module_main_conf(r, ngx_http_core_module));
        const auto* variables = static_cast<const ngx_http_variable_t*>(core->variables.elts);
        std::vector<std::pair<std::string, ngx_str_t>> kept;
        for (ngx_uint_t i = 0; i < core->variables.nelts; ++i) {
            const std::string_view name = claim_name(variables[i]);
            if (name.empty()) continue;
            const Value* value = ngx_http_get_flushed_variable(r, i);
            if (value == nullptr || value->not_found || !value->valid) continue;
            kept.emplace_back(name, ngx_str_t{value->len, value->data});
        }
        state->kept = std::move(kept);
        return true;
    });
}

}  // namespace rooms
