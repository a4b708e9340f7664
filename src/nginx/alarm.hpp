// A call of ours that nginx's event loop makes later: after a time, or at the end of this turn.
//
// Its data looks like a connection, for nginx's debug log reads a descriptor there. It does not hold a
// worker that wants to exit, unless it is told to. Destroying it calls it off; the handler may do so.
#pragma once

#include "nginx/ngx.hpp"

namespace rooms {

class Alarm {
public:
    // Never throws: it is called by nginx.
    using Handler = void (*)(void* owner) noexcept;

    Alarm(void* owner, Handler handler) : owner_(owner), handler_(handler) {
        dummy_.fd = -1;
        dummy_.data = this;
        event_.data = &dummy_;
        event_.cancelable = 1;
        event_.handler = [](ngx_event_t* event) {
            const auto& alarm = *static_cast<Alarm*>(static_cast<ngx_connection_t*>(event->data)->data);
            alarm.handler_(alarm.owner_);
        };
    }
    ~Alarm() { stop(); }
    Alarm(const Alarm&) = delete;
    Alarm& operator=(const Alarm&) = delete;

    void after(ngx_msec_t ms) {
        stop();  // else nginx would keep a time that differs by less than 300 ms
        event_.log = ngx_cycle->log;
        ngx_add_timer(&event_, ms);
    }
    void at_end_of_turn() { post(ngx_posted_events); }
    // The next turn will not wait for anything. What is at the end of this one comes then, too.
    void next_turn() {
        unpost();
        post(ngx_posted_next_events);
    }

    void stop() {
        if (event_.timer_set) ngx_del_timer(&event_);
        unpost();
    }
    // From now on the process lives until it has rung.
    void hold_worker() { event_.cancelable = 0; }
    [[nodiscard]] bool is_set() const { return event_.timer_set || event_.posted; }

private:
    void unpost() {
        if (event_.posted) {  // the macro is two statements
            ngx_delete_posted_event(&event_);
        }
    }
    void post(ngx_queue_t& queue) {
        if (event_.timer_set) ngx_del_timer(&event_);
        event_.log = ngx_cycle->log;
        ngx_post_event(&event_, &queue);
    }

    void* owner_;
    Handler handler_;
    ngx_event_t event_{};
    ngx_connection_t dummy_{};
};

}  // namespace rooms
