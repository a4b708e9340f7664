// The module as nginx sees it: its name, its directives, and its hooks into the life of processes.
#include "nginx/conf.hpp"
#include "nginx/error_log.hpp"
#include "nginx/ngx.hpp"
#include "nginx/worker.hpp"

namespace rooms {
namespace {

ngx_int_t init_module(ngx_cycle_t* cycle) {
    MainConf* main = main_conf(cycle);
    if (main != nullptr && main->reads_tokens && guard_error_log(cycle, *main) != NGX_OK) return NGX_ERROR;
    return worker_init_module(cycle);
}

}  // namespace
}  // namespace rooms

extern "C" {

// Hidden visibility is the rule of the build; this one name nginx looks for.
__attribute__((visibility("default"))) ngx_module_t ngx_http_rooms_module = {
    NGX_MODULE_V1,
    &rooms::kModuleContext,
    rooms::kCommands,
    NGX_HTTP_MODULE,
    nullptr,  // init master
    rooms::init_module,
    rooms::worker_init_process,
    nullptr,  // init thread
    nullptr,  // exit thread
    rooms::worker_exit_process,
    nullptr,  // exit master
    NGX_MODULE_V1_PADDING,
};
}
