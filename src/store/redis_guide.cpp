#include "store/redis_guide.hpp"

#include <utility>
#include <vector>

namespace rooms {
namespace {

constexpr std::uint64_t kAgainMs = 1000;

// Replicas know the map as well, and sentinels have no data.
RedisLogin of_any_role(RedisLogin login) {
    login.asks_replication = false;
    return login;
}

}  // namespace

RedisGuide::RedisGuide(Reactor& reactor, RedisLogin login, std::string kind, Handler& handler)
    : reactor_(reactor),
      kind_(std::move(kind)),
      handler_(handler),
      link_(reactor, of_any_role(std::move(login)), *this),
      ask_(reactor.timer([this] { ask(); })),
      alive_(std::make_shared<int>(0)) {}

void RedisGuide::ask_in(std::uint64_t ms) {
    const std::uint64_t at = reactor_.now_ms() + ms;
    if (ask_->armed() && ask_at_ <= at) return;
    ask_at_ = at;
    ask_->arm(ms);
}

void RedisGuide::ask() {
    if (!link_.down() || looking_up_) return;
    address_ = handler_.choose_guide(failures_);
    if (!address_.sockaddr.empty() && !reactor_.resolves()) return link_.open(address_);
    reactor_.resolve(address_.host, address_.port, alive_, [this](Result<std::vector<std::string>> found) {
        looking_up_ = false;
        ask_in(kAgainMs);  // should there be no memory for what follows
        if (found && !found->empty()) address_.sockaddr = found->front();
        if (address_.sockaddr.empty()) return on_down(link_, "its name has no address");
        link_.open(address_);
        ask_->disarm();
    });
    looking_up_ = true;
}

void RedisGuide::on_down(RedisLink&, std::string_view why) {
    ++failures_;
    ask_in(backoff_.next(reactor_.random()));
    tell(kind_ + " \"" + address_.text() + "\": " + std::string(why));
}

void RedisGuide::note_answer() {
    failures_ = 0;
    backoff_.reset();
}

void RedisGuide::tell(std::string trouble) {
    if (trouble == trouble_) return;
    trouble_ = std::move(trouble);
    if (!trouble_.empty()) reactor_.log(LogLevel::error, "redis: " + trouble_);
}

}  // namespace rooms
