// Key and secret files, read while the configuration is.
//
// The bytes are wiped when the object goes; only what is parsed out of them stays.
#pragma once

#include <string>
#include <string_view>

#include "core/result.hpp"
#include "nginx/ngx.hpp"

namespace rooms {

class ConfFile {
public:
    // `name` is relative to the configuration's directory. The error says which file and why.
    static Result<ConfFile> read(ngx_conf_t* cf, std::string_view name, std::size_t max_size);

    ConfFile(ConfFile&& other) noexcept;
    ConfFile& operator=(ConfFile&&) = delete;
    ~ConfFile();

    [[nodiscard]] std::string_view text() const { return {bytes_.data(), size_}; }
    [[nodiscard]] const std::string& path() const { return path_; }

    // For files with secrets: a warning in the log when others than owner and group may read it.
    void warn_if_readable(ngx_conf_t* cf) const;

private:
    ConfFile() = default;

    std::string path_;
    std::string bytes_;
    std::size_t size_ = 0;
    bool others_may_read_ = false;
};

}  // namespace rooms
