// A Redis server at the other end of a FakeReactor's connections: it answers by itself what is no concern of
// a test, and keeps the rest for it. Replies of a connection stay in order: one that is held holds those
// behind it.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "fake_reactor.hpp"
#include "redis_fixture.hpp"

namespace redis_test {

class FakeRedis {
public:
    using Answer = std::function<std::optional<std::string>(FakeLine&, const Words&)>;

    explicit FakeRedis(FakeReactor& of, std::uint16_t at_port = 6379) : port(at_port), reactor_(of) {}

    const std::uint16_t port;
    std::string role = "master";
    std::string replication = "r1";
    bool accepts = true;   // connections
    bool delivers = true;  // what is published
    bool silent = false;   // takes everything, says nothing
    Answer answer;         // asked first; nothing: as below
    std::vector<std::string> seen;
    std::map<FakeLine*, std::deque<Words>> held;  // not answered yet

    // Until nobody has anything to say. Only what is due by now.
    void serve() {
        // The end of an idle turn may be the beginning of something.
        for (int idle = 0; idle < 2; ++idle) {
            bool again = false;
            for (std::size_t i = 0; i < reactor_.lines.size(); ++i) {
                const std::shared_ptr<FakeLine> line = reactor_.lines[i];
                if (line->address.port != port || !line->alive()) continue;
                if (!line->opened() && !accepts) {
                    line->hang_up("connection refused");
                    again = true;
                    continue;
                }
                if (!line->opened()) line->accept();
                again = serve(*line) || again;
            }
            reactor_.settle();
            if (again) idle = -1;
        }
    }
    // Time passes, in steps that are shorter than any deadline.
    void run(std::uint64_t ms) {
        for (serve(); ms > 0; serve()) {
            const std::uint64_t step = std::min<std::uint64_t>(ms, 10);
            reactor_.advance(step);
            ms -= step;
        }
    }

    // To whoever listens.
    void publish(std::string_view channel, std::string_view text) {
        for (std::size_t i = 0; i < reactor_.lines.size(); ++i) {
            const std::shared_ptr<FakeLine> line = reactor_.lines[i];
            const auto found = subscriptions_.find(line.get());
            if (!line->alive() || found == subscriptions_.end()) continue;
            const auto kind = found->second.find(std::string(channel));
            if (kind == found->second.end()) continue;
            line->feed(list({bulk(kind->second), bulk(channel), bulk(text)}));
        }
    }
    [[nodiscard]] bool is_subscribed(std::string_view channel) const {
        for (const auto& line : reactor_.lines) {
            const auto found = subscriptions_.find(line.get());
            if (line->alive() && found != subscriptions_.end() &&
                found->second.contains(std::string(channel))) {
                return true;
            }
        }
        return false;
    }
    // The connection that publishes, or the one that listens; dies if there is none.
    [[nodiscard]] FakeLine& commands() { return find(false); }
    [[nodiscard]] FakeLine& subscriptions() { return find(true); }

    // The first command that is held, and its answer.
    [[nodiscard]] std::string waiting() {
        const auto& queue = held[&commands()];
        return queue.empty() ? std::string() : command_text(queue.front());
    }
    void reply(std::string_view resp) {
        FakeLine& line = commands();
        held[&line].pop_front();
        line.feed(resp);
        serve();
    }

    // All commands since the last call that begin so.
    std::vector<std::string> take(std::string_view beginning) {
        std::vector<std::string> found;
        for (const std::string& command : std::exchange(seen, {})) {
            if (command.starts_with(beginning)) found.push_back(command);
        }
        return found;
    }

private:
    bool serve(FakeLine& line) {
        auto& queue = held[&line];
        bool did = false;
        for (Words& words : line.take()) {
            seen.push_back(command_text(words));
            queue.push_back(std::move(words));
            did = true;
        }
        while (!silent && !queue.empty() && line.alive()) {
            const Words words = queue.front();
            std::optional<std::string> reply = answer ? answer(line, words) : std::nullopt;
            if (!reply) reply = usual(line, words);
            if (!reply) break;
            queue.pop_front();
            line.feed(*reply);
            if (delivers && (words[0] == "PUBLISH" || words[0] == "SPUBLISH")) publish(words[1], words[2]);
            did = true;
        }
        return did;
    }

    std::optional<std::string> usual(FakeLine& line, const Words& words) {
        const std::string& name = words[0];
        if (name == "INFO") return bulk(info_text(role, replication));
        if (name == "PUBLISH" || name == "SPUBLISH") return number(1);
        if (name == "SCRIPT") return bulk("loaded");
        if (name == "PING") return "+PONG\r\n";
        if (name == "AUTH" || name == "SELECT" || name == "ASKING" || name == "SET") return "+OK\r\n";
        if (name == "SUBSCRIBE" || name == "SSUBSCRIBE") {
            subscriptions_[&line][words[1]] = name[1] == 'S' ? "smessage" : "message";
            return list({bulk(name[1] == 'S' ? "ssubscribe" : "subscribe"), bulk(words[1]), number(1)});
        }
        if (name == "UNSUBSCRIBE" || name == "SUNSUBSCRIBE") {
            subscriptions_[&line].erase(words[1]);
            return list({bulk(name[0] == 'S' ? "sunsubscribe" : "unsubscribe"), bulk(words[1]), number(0)});
        }
        return std::nullopt;
    }

    FakeLine& find(bool subscribed) {
        for (std::size_t i = reactor_.lines.size(); i-- > 0;) {
            FakeLine& line = *reactor_.lines[i];
            if (line.address.port != port || !line.alive()) continue;
            if (!subscriptions_[&line].empty() == subscribed) return line;
        }
        die("no such connection");
    }

    FakeReactor& reactor_;
    std::map<const FakeLine*, std::map<std::string, std::string>> subscriptions_;
};

}  // namespace redis_test
