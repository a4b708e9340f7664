# The nginx that is there: its version, what it was configured with, where its modules and its configuration are, and what its
# configuration loads. Sourced by packaging/install.

# The words that configure was given; those with spaces have quotes behind the equals sign.
arguments_of() {
    local rest=$1
    arguments=()
    while [[ $rest =~ ^([^\ =]+)=\'([^\']*)\'\ *(.*)$ ]] || [[ $rest =~ ^([^\ ]+)()\ *(.*)$ ]]; do
        arguments+=("${BASH_REMATCH[1]}${BASH_REMATCH[2]:+=${BASH_REMATCH[2]}}")
        rest=${BASH_REMATCH[3]}
    done
}

look_at_nginx() {
    local said line arg compat=no
    nginx=$(command -v "$1") || fail "$1 is not there: apt-get install nginx, or NGINX_BINARY=/path/to/nginx"
    said=$("$nginx" -V 2>&1) || fail "$nginx -V fails: $said"
    version=$(sed -n 's|^nginx version: [^/]*/\([0-9.]*\).*|\1|p' <<<"$said")
    line=$(sed -n 's/^configure arguments: *//p' <<<"$said")
    arguments_of "$line"
    [[ " $line " != *' --with-compat '* ]] || compat=yes
    prefix=/usr/local/nginx modules=modules conf=conf/nginx.conf flags=()
    for arg in "${arguments[@]}"; do
        case $arg in
            --prefix=*) prefix=${arg#*=} ;;
            --modules-path=*) modules=${arg#*=} ;;
            --conf-path=*) conf=${arg#*=} ;;
            --with-*=* | --without-*=* | --add-*) ;;
            # With --with-compat these alone matter to a module; without it whatever nginx itself has, but not what only needs
            # libraries.
            --with-compat | --with-debug | --with-threads | --with-file-aio | --with-http_ssl_module | --with-http_v[23]_module | \
                --with-http_realip_module | --with-http_stub_status_module | --with-http_auth_request_module | --without-*) flags+=("$arg") ;;
            --with-google_perftools_module | --with-*geoip* | --with-http_image_filter_module | --with-http_xslt_module | --with-http_perl_module) ;;
            --with-*) [[ $compat == yes ]] || flags+=("$arg") ;;
        esac
    done
    [[ $modules == /* ]] || modules=$prefix/$modules
    [[ $conf == /* ]] || conf=$prefix/$conf
    module=$modules/ngx_http_rooms_module.so
    enabled=$(dirname "$conf")/modules-enabled/50-mod-http-rooms.conf
    # Where Debian's modules have what such a link points to. Another nginx has the file itself.
    available=
    [[ $enabled != /etc/nginx/* ]] || available=/usr/share/nginx/modules-available/mod-http-rooms.conf
}

# "debian", or a directory.
source_of_nginx() {
    if [[ -n ${NGINX_SRC:-} ]]; then
        local header=$NGINX_SRC/src/core/nginx.h theirs
        [[ -f $header ]] || fail "NGINX_SRC=$NGINX_SRC is no source of nginx: there is no $header"
        [[ $NGINX_SRC != *[[:space:]]* ]] || fail "nginx cannot be configured in a path with spaces: NGINX_SRC=$NGINX_SRC"
        theirs=$(sed -n 's/^#define NGINX_VERSION *"\(.*\)"/\1/p' "$header")
        [[ $theirs == "$version" ]] ||
            fail "$nginx is $version, and NGINX_SRC=$NGINX_SRC is $theirs: a module is built for one version"
        echo "$NGINX_SRC"
    elif dpkg-query -S "$(readlink -f "$nginx")" 2>/dev/null | grep -q '^nginx' &&
        dpkg-query -W -f '${Provides}\n' nginx 2>/dev/null | grep -q nginx-abi-; then
        echo debian
    else
        fail "$nginx ($version) is not Debian's: NGINX_SRC=DIR ./build.sh install, DIR being the source of nginx $version"
    fi
}

# What `nginx -t` says, the same each time; its exit code.
nginx_says() {
    "${1:-$nginx}" -t 2>&1 | sed -E 's|^[0-9/]+ [0-9:]+ (\[[a-z]+\]) [0-9#]+:|\1|; s/^/    /'
    return "${PIPESTATUS[0]}"
}

# Every load_module of the configuration as "FILE<tab>PATH"; nothing where nginx cannot read it.
load_lines() {
    "$nginx" -T 2>/dev/null | awk '
        /^# configuration file / { file = substr($0, 22, length($0) - 22); next }
        { sub(/#.*/, ""); text = text " " $0 }
        /[;{}]/ {
            n = split(text, parts, /[;{}]/)
            for (i = 1; i < n; i++) if (sub(/^[ \t]*load_module[ \t]+/, "", parts[i])) {
                gsub(/^["\047]|["\047]?[ \t]*$/, "", parts[i]); print file "\t" parts[i]
            }
            text = parts[n]
        }'
}

load_line() {
    if [[ $module =~ ^[A-Za-z0-9/._+@%-]+$ ]]; then echo "load_module $module;"; else echo "load_module \"$module\";"; fi
}
