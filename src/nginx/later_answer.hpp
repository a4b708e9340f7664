// A request that a callback answers: in the handler that began it, or turns later, or not at all because
// its client went away meanwhile. Shared by the request's pool and the callback.
#pragma once

#include <memory>
#include <utility>

#include "nginx/guard.hpp"
#include "nginx/ngx.hpp"
#include "nginx/pool.hpp"

namespace rooms {

class LaterAnswer {
public:
    // Null: no memory. REQUIRES: the caller finalizes the request itself unless it returns through
    // was_answered() or wait().
    [[nodiscard]] static std::shared_ptr<LaterAnswer> make(ngx_http_request_t* r) {
        auto answer = std::make_shared<LaterAnswer>(r);
        auto* kept = make_in_pool<std::shared_ptr<LaterAnswer>>(r->pool, answer);
        ngx_http_cleanup_t* cleanup = kept == nullptr ? nullptr : ngx_http_cleanup_add(r, 0);
        if (cleanup == nullptr) return nullptr;
        cleanup->data = kept;
        cleanup->handler = [](void* data) {
            (*static_cast<std::shared_ptr<LaterAnswer>*>(data))->request_ = nullptr;
        };
        return answer;
    }
    explicit LaterAnswer(ngx_http_request_t* r) : request_(r) {}
    LaterAnswer(const LaterAnswer&) = delete;
    LaterAnswer& operator=(const LaterAnswer&) = delete;

    // In the callback: `respond(r)` sends the answer and returns what to finalize with. Not called where
    // nobody waits any more.
    template <typename Respond>
    void give(Respond&& respond) {
        ngx_http_request_t* const r = std::exchange(request_, nullptr);
        if (r == nullptr) return;
        ngx_connection_t* const c = r->connection;
        const bool in_handler = in_handler_;
        const ngx_int_t rc = guarded(c->log, ngx_int_t{NGX_HTTP_INTERNAL_SERVER_ERROR},
                                     [&] { return std::forward<Respond>(respond)(r); });
        ngx_http_finalize_request(r, rc);
        if (!in_handler) ngx_http_run_posted_requests(c);
    }

    // In the handler, once the callback has been handed over: a client that goes away is noticed from here on.
    void wait() {
        if (request_ == nullptr) return;
        in_handler_ = false;
        request_->read_event_handler = ngx_http_test_reading;
    }

    // In the handler, after a failure: true if the request is the handler's to finalize, and it is no
    // longer the callback's.
    [[nodiscard]] bool take_back() { return std::exchange(request_, nullptr) != nullptr; }

private:
    ngx_http_request_t* request_;  // null once it is answered, or gone
    bool in_handler_ = true;       // nginx's own code is below on the stack
};

}  // namespace rooms
