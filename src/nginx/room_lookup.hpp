// Who is asked where a rule of rooms_allow has sql= or request=: the database, or a location of this server.
//
// One for each location with such rules, owned by the worker. Equal questions that are under way are asked
// once; what was allowed is kept for `cache=`.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "core/lookup.hpp"
#include "core/lookup_cache.hpp"
#include "nginx/conf.hpp"
#include "nginx/inner_request.hpp"
#include "store/pg_link.hpp"
#include "store/reactor.hpp"

namespace rooms {

class RoomLookup final : public Lookup {
public:
    // `link` is null where no rule has sql=; `server` is where request= goes. All outlive this.
    RoomLookup(Reactor& reactor, PgLink* link, ngx_http_core_srv_conf_t* server, const RoomRules& rules);

    void ask(std::uint32_t rule, std::vector<std::string> values, Done done) override;

private:
    static constexpr std::size_t kMaxKept = 10000;
    static constexpr std::size_t kMaxRequests = 256;  // each takes two of worker_connections

    void run(const LookupRule& rule, std::vector<std::string> values, Done done);
    void run_sql(const LookupRule& rule, const std::vector<std::string>& values, Done done);
    [[nodiscard]] Answer judge(const LookupRule& rule, const PgOutcome& outcome);
    void run_request(const LookupRule& rule, const std::vector<std::string>& values, Done done);
    void on_answer(const std::string& key, const LookupRule& rule, Answer answer);

    Reactor& reactor_;
    PgLink* const link_;
    ngx_http_core_srv_conf_t* const server_;
    const RoomRules& rules_;
    LookupCache cache_{kMaxKept};
    std::unordered_map<std::string, std::vector<Done>> asking_;
    std::unordered_set<const LookupRule*> failing_;  // the log has been told
    std::vector<std::unique_ptr<InnerRequest>> requests_;
};

}  // namespace rooms
