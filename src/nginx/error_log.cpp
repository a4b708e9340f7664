// A writer before the writer. nginx calls it with the whole line, in a buffer that may be changed.
#include "nginx/error_log.hpp"

#include <utility>
#include <vector>

#include "nginx/guard.hpp"
#include "nginx/mask.hpp"
#include "nginx/pool.hpp"

namespace rooms {
namespace {

// What a guarded log had before.
struct Sink {
    ngx_log_writer_pt writer = nullptr;  // null: into the file
    void* data = nullptr;
    const std::vector<std::string>* names = nullptr;
};

void write_masked(ngx_log_t* log, ngx_uint_t level, u_char* line, std::size_t size) {
    const auto* sink = static_cast<const Sink*>(log->wdata);
    const std::span<char> text(reinterpret_cast<char*>(line), size);
    mask_arguments(text, *sink->names);
    mask_credentials(text);
    if (sink->writer != nullptr) {
        ngx_log_t inner = *log;
        inner.wdata = sink->data;
        sink->writer(&inner, level, line, size);
        return;
    }
    // As ngx_log_error_core does: a full disk is not asked again within the same second.
    if (log->file == nullptr || ngx_time() == log->disk_full_time) return;
    if (ngx_write_fd(log->file->fd, line, size) == -1 && ngx_errno == NGX_ENOSPC) {
        log->disk_full_time = ngx_time();
    }
}

class Guard {
public:
    Guard(ngx_pool_t* pool, const std::vector<std::string>& names) : pool_(pool), names_(names) {}

    // A chain like this one whose lines are masked; null where memory ran out.
    ngx_log_t* guarded_log(ngx_log_t* log) {
        for (const auto& [from, to] : done_) {
            if (from == log) return to;
        }
        auto* copy = static_cast<ngx_log_t*>(ngx_palloc(pool_, sizeof(ngx_log_t)));
        auto* sink = make_in_pool<Sink>(pool_);
        if (copy == nullptr || sink == nullptr) return nullptr;
        *copy = *log;
        *sink = {log->writer, log->wdata, &names_};
        copy->writer = write_masked;
        copy->wdata = sink;
        if (log->next != nullptr) {
            copy->next = guarded_log(log->next);
            if (copy->next == nullptr) return nullptr;
        }
        done_.emplace_back(log, copy);
        return copy;
    }

private:
    ngx_pool_t* pool_;
    const std::vector<std::string>& names_;
    std::vector<std::pair<ngx_log_t*, ngx_log_t*>> done_;
};

}  // namespace

ngx_int_t guard_error_log(ngx_cycle_t* cycle, MainConf& main) {
    return guarded(cycle->log, ngx_int_t{NGX_ERROR}, [&]() -> ngx_int_t {
        Guard guard(cycle->pool, main.token_arguments);
        for (ngx_http_core_loc_conf_t* level : main.levels) {
            if (level->error_log == nullptr || level->error_log->writer == write_masked) continue;
            ngx_log_t* log = guard.guarded_log(level->error_log);
            if (log == nullptr) return NGX_ERROR;
            level->error_log = log;
        }
        return NGX_OK;
    });
}

}  // namespace rooms
