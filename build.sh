#!/bin/bash
# The one door on a fresh Debian 12: installs the packages that are missing, then runs make.
#
#   ./build.sh run          nginx with the module on 127.0.0.1:8080, and a page that shows it
#   ./build.sh test         everything
#   ./build.sh install      (root) into the nginx that is installed; NGINX_SRC=DIR: its source, where it is not Debian's
#   ./build.sh uninstall    exactly that is gone
#   ./build.sh deb          build/libnginx-mod-http-rooms_….deb: the same as a package, and as all of Debian's do it has a running
#                           nginx reloaded, which `install` leaves to you
#   ./build.sh TARGET …     any other target of the Makefile (`./build.sh help` lists them)
#
# It starts no service: packages are installed behind a policy-rc.d that forbids it, which is taken
# away again. Without root and without sudo it prints the one line to run, and ends.
set -euo pipefail
# Paths are meant from where they were said.
if [[ -n ${NGINX_SRC:-} ]]; then NGINX_SRC=$(realpath -m -- "$NGINX_SRC"); fi
if [[ ${NGINX_BINARY:-} == */* ]]; then NGINX_BINARY=$(realpath -ms -- "$NGINX_BINARY"); fi
cd "$(dirname "${BASH_SOURCE[0]}")"

# A name behind a colon is a command that will do as well, whatever package it came from.
compile_packages=(g++ make libssl-dev zlib1g-dev libpcre2-dev libhiredis-dev libpq-dev)
module_packages=(nginx nginx-dev "${compile_packages[@]}")
run_packages=("${module_packages[@]}" openssl curl postgresql redis-server nodejs:node npm:npm)
test_packages=("${run_packages[@]}" perl python3 python3-websockets redis-tools libcmocka-dev libjwt-dev libjansson-dev
    clang-14 libclang-rt-14-dev clang-format-14 valgrind
    libnginx-mod-nchan chromium:chromium git iproute2 procps logrotate prometheus)

# Not in Debian 12: later releases have it, and the tests of Redis run on it as well.
if apt-cache policy valkey-server 2>/dev/null | grep -q 'Candidate: [0-9]'; then
    test_packages+=(valkey-server)
fi

missing_packages() {
    local entry name command
    for entry in "$@"; do
        name=${entry%%:*} command=${entry#*:}
        if [[ $entry == *:* ]] && command -v "$command" >/dev/null; then continue; fi
        [[ $(dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null) == installed ]] || echo "$name"
    done
}

listeners() {  # like `ss -ltn`, which a bare system has not got
    cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk '$4 == "0A" { print $2 }' | sort -u
}

# As root. Whatever stood at policy-rc.d stands there again afterwards, and a file of ours that a
# killed run left behind does not.
policy=${ROOMS_POLICY_RC_D:-/usr/sbin/policy-rc.d}  # tests put it elsewhere
saved=$policy.before-rooms
mark='# rooms: build.sh is installing packages'
# Debian makes a database cluster when the server is installed, which would run from the next boot on.
no_cluster=${ROOMS_CREATECLUSTER_D:-/etc/postgresql-common/createcluster.d}/rooms-build.conf
lift_policy() {
    rm -f "$no_cluster"
    if grep -qsF "$mark" "$policy"; then rm -f "$policy"; fi
    if [[ -e $saved || -L $saved ]]; then mv -f "$saved" "$policy"; fi
}
install_as_root() {
    local before after had_nginx=no
    export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
    [[ ! -x /usr/sbin/nginx ]] || had_nginx=yes
    before=$(listeners)
    lift_policy
    trap lift_policy EXIT
    trap 'exit 130' INT TERM HUP
    if [[ -e $policy || -L $policy ]]; then mv "$policy" "$saved"; fi
    printf '#!/bin/sh\n%s\nexit 101\n' "$mark" >"$policy"
    chmod 755 "$policy"
    mkdir -p "${no_cluster%/*}"
    printf '%s\n' "$mark" 'create_main_cluster = false' >"$no_cluster"
    chmod 644 "$no_cluster"
    apt-get update -q -o=Dpkg::Use-Pty=0 >/dev/null
    local log
    log=$(mktemp)
    apt-get install -y -q --no-install-recommends -o=Dpkg::Use-Pty=0 "$@" >"$log" 2>&1 || {
        tail -n 20 "$log" >&2
        rm -f "$log"
        exit 1
    }
    rm -f "$log"
    # The package also enables itself for the next boot.
    if [[ $had_nginx == no && -d /run/systemd/system ]]; then
        systemctl disable --quiet nginx.service 2>/dev/null || true
        echo "build.sh: nginx is installed, not started, and not enabled at boot" >&2
    fi
    after=$(comm -13 <(echo "$before") <(listeners) | while read -r at; do echo $((16#${at##*:})); done | sort -nu)
    if [[ -n $after ]]; then
        echo "build.sh: meanwhile something began to listen on port" $after "(see ss -ltnp)" >&2
    fi
}

need() {
    local missing
    mapfile -t missing < <(missing_packages "$@")
    ((${#missing[@]})) || return 0
    local line="apt-get install -y --no-install-recommends ${missing[*]}"
    if [[ $(id -u) == 0 ]]; then
        echo "build.sh: installing ${missing[*]}" >&2
        "$BASH" ./build.sh --install-as-root "${missing[@]}"
    elif command -v sudo >/dev/null && sudo -v; then
        echo "build.sh: installing ${missing[*]}" >&2
        sudo "$BASH" ./build.sh --install-as-root "${missing[@]}"
    else
        echo "build.sh: packages are missing; as root:" >&2
        echo "  $line"
        exit 1
    fi
    mapfile -t missing < <(missing_packages "$@")
    ((${#missing[@]} == 0)) || { echo "build.sh: still missing: ${missing[*]}" >&2; exit 1; }
}

# Before anything is built: a port that is taken is the commonest reason for `run` to fail.
check_port() {
    local port=${PORT:-8080} holder=
    if ! [[ $port =~ ^[0-9]{1,5}$ ]] || ((10#$port < 1 || 10#$port > 65535)); then
        echo "build.sh: PORT=$port is not a port: PORT=9000 ./build.sh run" >&2
        exit 1
    fi
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || return 0
    if command -v ss >/dev/null; then
        holder=$(ss -Hltnp "sport = :$port" 2>/dev/null | sed -n 's/.*users:(("\([^"]*\)",pid=\([0-9]*\).*/ (by \1, pid \2)/p' | head -n 1)
    fi
    echo "build.sh: port $port is taken$holder: PORT=9000 ./build.sh run" >&2
    exit 1
}

case ${1:-run} in
    --install-as-root)
        shift
        install_as_root "$@"
        ;;
    run)
        check_port
        ROOMS_BEGUN=$(date +%s)
        export ROOMS_BEGUN
        need "${run_packages[@]}"
        make --no-print-directory -j2 module demo
        exec client/demo/run
        ;;
    install)
        from=$(packaging/install source)
        if [[ $from == debian ]]; then need "${module_packages[@]}"; else need "${compile_packages[@]}"; fi
        exec packaging/install install
        ;;
    uninstall)
        exec packaging/install remove
        ;;
    deb | deb-check)
        need "${module_packages[@]}" build-essential debhelper fakeroot lintian openssl curl python3 procps
        exec make --no-print-directory "$@"
        ;;
    bench | bench-full | bench-many)
        need "${run_packages[@]}" python3 libnginx-mod-nchan
        exec make --no-print-directory "$@"
        ;;
    help | -h | --help)
        need make:make
        exec make --no-print-directory help
        ;;
    module | clean)
        need "${run_packages[@]}"
        exec make --no-print-directory "$@"
        ;;
    *)
        for word in "$@"; do
            if [[ $word =~ ^[a-z-]+$ ]] && ! grep -Eq "^([a-z][a-z %-]* )?$word( [a-z %-]+)?:" Makefile; then
                echo "build.sh: there is no target $word: ./build.sh help" >&2
                exit 1
            fi
        done
        need "${test_packages[@]}"
        exec make --no-print-directory "$@"
        ;;
esac
