// No token in the error log: its lines about requests show the request line, also of one that was cut
// off in the middle, where no module has been asked anything.
//
// Not the log's handler is wrapped, which nginx sets anew for each request of a kept-alive connection,
// but the writer, which gets the finished line: of every error log that an http{} level has, in copies
// of its own. The cycle's log, which outlives the module's code, is not touched.
#pragma once

#include "nginx/conf.hpp"
#include "nginx/ngx.hpp"

namespace rooms {

// Once the log files are open. NGX_OK or NGX_ERROR.
ngx_int_t guard_error_log(ngx_cycle_t* cycle, MainConf& main);

}  // namespace rooms
