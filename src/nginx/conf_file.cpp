// One open, one fstat, one buffer that never grows: a grown one would leave a copy behind.
#include "nginx/conf_file.hpp"

#include <openssl/crypto.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace rooms {

Result<ConfFile> ConfFile::read(ngx_conf_t* cf, std::string_view name, std::size_t max_size) {
    ngx_str_t full = copy_to_pool(cf->pool, std::string(name) + '\0');  // opened as a C string below
    if (full.data == nullptr) return Error{"out of memory"};
    --full.len;
    if (name.empty() || ngx_conf_full_name(cf->cycle, &full, 1) != NGX_OK) {
        return Error{"needs the name of a file"};
    }
    ConfFile file;
    file.path_ = view(full);
    const auto fault = [&](const std::string& why) {
        return Error{"cannot read \"" + file.path_ + "\": " + why};
    };

    const int fd = open(file.path_.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd == -1) return fault(std::strerror(errno));
    struct stat info = {};
    if (fstat(fd, &info) == -1 || !S_ISREG(info.st_mode)) {
        close(fd);
        return fault("not a regular file");
    }
    if (static_cast<std::uintmax_t>(info.st_size) > max_size) {
        close(fd);
        return fault("larger than " + std::to_string(max_size) + " bytes");
    }
    file.others_may_read_ = (info.st_mode & S_IROTH) != 0;
    file.bytes_.resize(static_cast<std::size_t>(info.st_size));
    while (file.size_ < file.bytes_.size()) {
        const ssize_t n = ::read(fd, file.bytes_.data() + file.size_, file.bytes_.size() - file.size_);
        if (n == 0) break;
        if (n == -1 && errno == EINTR) continue;
        if (n == -1) {
            const int error = errno;
            close(fd);
            return fault(std::strerror(error));
        }
        file.size_ += static_cast<std::size_t>(n);
    }
    close(fd);
    return Result<ConfFile>(std::move(file));
}

ConfFile::ConfFile(ConfFile&& other) noexcept
    : path_(std::move(other.path_)),
      size_(std::exchange(other.size_, 0)),
      others_may_read_(other.others_may_read_) {
    bytes_.swap(other.bytes_);
    // What fitted into the string object itself has been copied.
    OPENSSL_cleanse(other.bytes_.data(), other.bytes_.capacity());
}

ConfFile::~ConfFile() { OPENSSL_cleanse(bytes_.data(), bytes_.size()); }

void ConfFile::warn_if_readable(ngx_conf_t* cf) const {
    if (!others_may_read_) return;
    ngx_conf_log_error(
        NGX_LOG_WARN, cf, 0,
        "\"%V\": everybody on this host may read \"%s\", which holds a secret: chmod 0640 or 0600",
        cf->args->elts, path_.c_str());
}

}  // namespace rooms
