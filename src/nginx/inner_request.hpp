// A GET that this server makes to itself: what `rooms_allow … request=URI` asks.
//
// It comes to nginx over a pair of sockets as if a client had connected, so that everything a location can
// do works: proxy_pass, limits, logs. The server{} is the one in which the rule stands, the request is
// `internal`, its peer is "unix:", and it has no headers at all. Only the status of the answer counts.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "nginx/descriptor.hpp"
#include "nginx/ngx.hpp"
#include "store/reactor.hpp"

namespace rooms {

class InnerRequest {
public:
    // `status`: 0 where there was none in time.
    using Done = std::function<void(unsigned status)>;

    static constexpr std::uint64_t kTimeoutMs = 5000;

    // `done` is called once, later, and may destroy this; not when this is destroyed first. Null: no
    // descriptor or no connection. Throws std::bad_alloc. REQUIRES: `uri` has no byte that a request line has not.
    [[nodiscard]] static std::unique_ptr<InnerRequest> start(Reactor& reactor,
                                                             ngx_http_core_srv_conf_t* server,
                                                             std::string_view uri, Done done);
    ~InnerRequest();
    InnerRequest(const InnerRequest&) = delete;
    InnerRequest& operator=(const InnerRequest&) = delete;

    // Answered, and nginx has closed its end: this can go.
    [[nodiscard]] bool over() const { return !end_.open(); }

private:
    InnerRequest(Reactor& reactor, Descriptor end, Done done);
    void on_ready();
    void end(unsigned status);
    void hang_up();

    Descriptor end_;
    Done done_;
    std::unique_ptr<Watch> watch_;
    std::unique_ptr<Timer> timer_;
    std::string head_;  // of the answer, up to the end of its first line
};

// Server rewrite phase: makes such a request internal.
ngx_int_t admit_inner_request(ngx_http_request_t* r);

}  // namespace rooms
