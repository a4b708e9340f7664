// Lists of approvals: some entries of the session's or the tenant's index, the approvals themselves, and so
// on until the page is full. What has expired since is passed over.
#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "core/json_text.hpp"
#include "store/redis_approvals.hpp"

namespace rooms {
namespace {

constexpr std::size_t kRead = 200;        // entries at a time
constexpr std::uint64_t kEnoughMs = 500;  // a page that took so long ends with what it has
// Not more than the clocks of this host and of Redis may be apart.
constexpr std::int64_t kApartMs = 600000;

}  // namespace

struct RedisApprovals::Listing {
    struct Entry {
        ApprovalPlace place;
        std::string json;  // empty: not to be shown
        bool there = false;
    };
    RequestPtr request;
    ApprovalQuery query;
    std::string tenant;    // as JSON, where the session's list is to be of one tenant
    std::string from;      // the deadline that the next entries are read from
    std::size_t skip = 0;  // so many of them have been read
    std::string after;     // `from` and the id that the page begins behind
    std::int64_t after_deadline = 0;
    std::uint64_t until = 0;
    std::vector<Entry> entries;  // being read
    bool last = false;           // there are no others
    std::size_t open = 0;
    bool failed = false;
    std::string json = "{\"approvals\":[";
    unsigned shown = 0;
    std::string last_there;
};

void RedisApprovals::list(const ApprovalQuery& query, ApprovalDone done) {
    auto listing = std::make_shared<Listing>();
    listing->request = open(std::move(done));
    listing->query = query;
    listing->from = "-inf";
    listing->until = reactor_.now_ms() + kEnoughMs;
    // What is overdue is shown as timed out.
    if (query.status == ApprovalStatus::pending)
        listing->from = std::to_string(reactor_.wall_ms() - kApartMs);
    if (query.session && query.tenant) append_json_string(listing->tenant, *query.tenant);
    if (!query.after) return next_page(listing);
    ApprovalAnswer unknown;
    unknown.outcome = ApprovalOutcome::bad_after;
    if (!is_approval_id(*query.after)) return answer(*listing->request, unknown);
    calls_.find(*query.after, [this, listing, unknown](const RedisOutcome& outcome) {
        if (!outcome.reply) return give_up(*listing->request, outcome.why);
        if (outcome.reply->is_nil()) return answer(*listing->request, unknown);
        const ApprovalPlace place = {*listing->query.after, std::string(outcome.reply->text())};
        calls_.read({&place, 1}, [this, listing, unknown](const RedisOutcome& read) {
            if (!read.reply) return give_up(*listing->request, read.why);
            const auto deadline = (*read.reply)[0][2].integer();
            if (!deadline) return answer(*listing->request, unknown);
            listing->after = *listing->query.after;
            listing->after_deadline = *deadline;
            listing->from = std::to_string(*deadline);
            next_page(listing);
        });
    });
}

void RedisApprovals::next_page(const ListingPtr& listing) {
    const ApprovalQuery& query = listing->query;
    calls_.list(query.session.has_value(), query.session ? *query.session : *query.tenant, listing->from,
                listing->skip, kRead, [this, listing](const RedisOutcome& outcome) {
                    if (!outcome.reply) return give_up(*listing->request, outcome.why);
                    read_page(listing, *outcome.reply);
                });
}

void RedisApprovals::read_page(const ListingPtr& listing, Reply found) {
    listing->entries.clear();
    listing->last = found.size() < 2 * kRead;
    for (std::size_t i = 0; i + 1 < found.size(); i += 2) {
        const std::string_view member = found[i].text();
        const std::string deadline(found[i + 1].text());
        listing->skip = deadline == listing->from ? listing->skip + 1 : 1;
        listing->from = deadline;
        const std::size_t space = std::min(member.find(' '), member.size());
        Listing::Entry entry;
        entry.place.id = member.substr(0, space);
        entry.place.session = listing->query.session
                                  ? *listing->query.session
                                  : std::string(member.substr(std::min(space + 1, member.size())));
        const bool seen = !listing->after.empty() && parse_json_i64(deadline) == listing->after_deadline &&
                          entry.place.id <= listing->after;
        if (!seen) listing->entries.push_back(std::move(entry));
    }
    // One call for each session, of those that follow one another.
    listing->open = 1;
    for (std::size_t begin = 0, end = 0; begin < listing->entries.size(); begin = end) {
        std::vector<ApprovalPlace> places;
        for (end = begin; end < listing->entries.size() &&
                          listing->entries[end].place.session == listing->entries[begin].place.session;
             ++end)
            places.push_back(listing->entries[end].place);
        ++listing->open;
        calls_.read(places, [this, listing, begin, end](const RedisOutcome& outcome) {
            if (!outcome.reply) listing->failed = true;
            for (std::size_t i = 0; outcome.reply && i < end - begin; ++i) {
                const Reply approval = (*outcome.reply)[i];
                Listing::Entry& entry = listing->entries[begin + i];
                entry.there = !approval.is_nil();
                const auto& wanted = listing->query.status;
                const bool fits = (!wanted || approval[1].text() == approval_status_text(*wanted)) &&
                                  (listing->tenant.empty() || approval[3].text() == listing->tenant);
                if (fits) entry.json = approval[0].text();
            }
            if (--listing->open == 0) show_page(listing);
        });
    }
    if (--listing->open == 0) show_page(listing);
}

void RedisApprovals::show_page(const ListingPtr& listing) {
    if (listing->failed) return give_up(*listing->request, "redis did not answer all that it was asked");
    const unsigned limit = listing->query.page();
    for (const Listing::Entry& entry : listing->entries) {
        if (listing->shown == limit) break;
        if (entry.there) listing->last_there = entry.place.id;
        if (entry.json.empty()) continue;
        if (listing->shown++ != 0) listing->json += ',';
        listing->json += entry.json;
    }
    const bool full = listing->shown == limit;
    const bool late = reactor_.now_ms() >= listing->until && !listing->last_there.empty();
    if (!full && !listing->last && !late) return next_page(listing);
    listing->json += "],\"next\":";
    if (full || !listing->last) {
        append_json_string(listing->json, listing->last_there);
    } else {
        listing->json += "null";
    }
    listing->json += '}';
    ApprovalAnswer page;
    page.outcome = ApprovalOutcome::found;
    page.json = listing->json;
    answer(*listing->request, page);
}

}  // namespace rooms
