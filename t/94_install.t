#!/usr/bin/python3
"""`./build.sh install` and `uninstall` on the nginx of this machine, as it stands there: /etc, /usr, /var and /run are overlaid,
so that what is done to them is seen by this test alone."""
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import ASAN, ROOT, VERSION, tap, wait_until                              # noqa: E402
from rooms.overlaid import HTTP, LINK, MODULE, Site, enter, run, tree, write        # noqa: E402

if ASAN:
    print("1..0 # SKIP what is installed has no sanitizers")
    sys.exit(0)
folder = enter()
site = Site(folder)


# What has been built once need not be built again.
os.mkdir(os.path.join(folder, "bin"))
write(os.path.join(folder, "bin/make"), f"#!/bin/sh\n[ ! -e {folder}/built ] || exec echo build/ngx_http_rooms_module.so\nexec /usr/bin/make \"$@\"\n")
os.chmod(os.path.join(folder, "bin/make"), 0o755)
os.environ["PATH"] = f"{folder}/bin:{os.environ['PATH']}"


def build(*words, expect=0, **env):
    answer = run(os.path.join(ROOT, "build.sh"), *words, check=False, env={**os.environ, **env})
    tap.is_(answer.returncode, expect, f"{' '.join(words)}: {answer.stdout}{answer.stderr}")
    return answer.stdout + answer.stderr


untouched = tree()


@tap.case("without root nothing happens, and the line to type is printed")
def _():
    # The checkout may be where nobody else looks into.
    shutil.copytree(os.path.join(ROOT, "packaging"), os.path.join(folder, "packaging"))
    answer = run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/bin/bash", f"{folder}/packaging/install", "install",
                 check=False)
    tap.is_(answer.returncode, 1, "exit code")
    tap.like(answer.stderr, "needs root: sudo ./build.sh install")
    tap.is_(tree(), untouched, "the tree")


@tap.case("what was never installed cannot be uninstalled")
def _():
    tap.like(build("uninstall", expect=1), "nothing is here of ./build.sh install")


@tap.case("the source of another version is refused, with both versions; so is what is no source")
def _():
    other = os.path.join(folder, "nginx-1.99.0/src/core")
    os.makedirs(other)
    write(os.path.join(other, "nginx.h"), '#define NGINX_VERSION      "1.99.0"\n')
    tap.like(build("install", expect=1, NGINX_SRC=os.path.join(folder, "nginx-1.99.0")), r"nginx is 1\.\S+, and NGINX_SRC=\S+ is 1\.99\.0")
    tap.like(build("install", expect=1, NGINX_SRC=folder), "is no source of nginx")
    tap.is_(tree(), untouched, "the tree")


@tap.case("an nginx that is not Debian's is told from it, and its source is asked for; one that is not there is named")
def _():
    copy = os.path.join(folder, "nginx")
    shutil.copy("/usr/sbin/nginx", copy)
    tap.like(build("install", expect=1, NGINX_BINARY=copy), r"is not Debian's: NGINX_SRC=DIR ./build.sh install")
    tap.like(build("install", expect=1, NGINX_BINARY="/nowhere/nginx"), "/nowhere/nginx is not there")


@tap.case("a configuration that does not hold with the module: nginx' words, and all is as it was")
def _():
    write(HTTP, "rooms_history session:* size=many;\n")
    said = build("install", expect=1)
    tap.like(said, r'\[emerg\].*invalid value "size=many" in "rooms_history"')
    tap.like(said, "all is as it was")
    os.remove(HTTP)
    tap.is_(tree(), untouched, "the tree")


@tap.case("installed: loaded as Debian's modules are, stripped, and nginx is not reloaded")
def _():
    before = site.workers()
    said = build("install")
    write(os.path.join(folder, "built"), "")
    tap.like(said, rf"^rooms {re.escape(VERSION)} for nginx \S+: {MODULE}, loaded by {LINK}$")
    tap.like(said, "Nothing was reloaded")
    tap.is_(os.readlink(LINK), "/usr/share/nginx/modules-available/mod-http-rooms.conf", "link")
    with open(LINK, encoding="ascii") as file:
        tap.is_(file.read(), f"load_module {MODULE};\n", LINK)
    tap.is_((os.stat(MODULE).st_mode & 0o777, os.stat(MODULE).st_uid), (0o644, 0), "mode and owner")
    tap.ok(os.stat(MODULE).st_size < 4 << 20, "no debugging symbols")
    tap.is_(site.workers(), before, "workers")
    site.app_answers()


@tap.case("the README's lines added, and a reload: wss and /publish work, and the application is untouched")
def _():
    site.add_rooms()
    site.rooms_work()


@tap.case("installed again over it: the new file is there, and of the old one nothing is left; uninstall still knows all of it")
def _():
    old = os.stat(MODULE).st_ino
    build("install")
    tap.isnt(os.stat(MODULE).st_ino, old, "the file: one that runs is not written to")
    tap.is_([name for name in os.listdir(os.path.dirname(MODULE)) if "rooms" in name], ["ngx_http_rooms_module.so"], "modules")


@tap.case("an upgrade that fails leaves the version of before; while the configuration has its directives it is not uninstalled")
def _():
    with open(MODULE, "ab") as file:
        file.write(b"the one before")
    before = tree()
    write("/etc/nginx/conf.d/broken.conf", "no_such_directive on;\n")
    build("install", expect=1)
    os.remove("/etc/nginx/conf.d/broken.conf")
    tap.is_(tree(), before, "the tree")
    with open(MODULE, "rb") as file:
        tap.ok(file.read().endswith(b"the one before"), "the module of before")
    said = build("uninstall", expect=1)
    tap.like(said, r'unknown directive "rooms')
    tap.like(said, "Take its directives out of the configuration first")
    tap.is_(tree(), before, "the tree")


@tap.case("uninstalled: nginx -t is green, and everything is as it was before the installation")
def _():
    site.remove_rooms()
    tap.like(build("uninstall"), rf"removed: .*{MODULE}")
    run("nginx", "-t")
    tap.is_(tree(), untouched, "the tree")
    site.app_answers()
    tap.like(build("uninstall", expect=1), "nothing is here")


@tap.case("a load_module line of one's own is not doubled; a directory that had to be made goes again")
def _():
    shutil.rmtree("/usr/share/nginx/modules-available", ignore_errors=True)
    before = tree()
    with open("/etc/nginx/nginx.conf", encoding="utf-8") as file:
        conf = file.read()
    tap.like(build("install"), f"loaded by {LINK}")
    build("uninstall")
    tap.is_(tree(), before, "the tree")
    write("/etc/nginx/nginx.conf", f"load_module {MODULE};\n" + conf)
    tap.like(build("install"), "loaded by a line of your own")
    tap.ok(not os.path.lexists(LINK), "no second line")
    write("/etc/nginx/nginx.conf", conf)
    build("uninstall")
    tap.is_(tree(), before, "the tree")


def other_nginx(name, body):
    """An nginx of another path: this machine's, behind a script."""
    path = os.path.join(folder, name)
    write(path, f"#!/bin/sh\n{body}\nexec /usr/sbin/nginx \"$@\"\n")
    os.chmod(path, 0o755)
    return {"NGINX_BINARY": path, "NGINX_SRC": "/usr/share/nginx/src"}


def killed(*words):
    """packaging/install, killed with all that it started when it asks nginx about what has been changed."""
    env = other_nginx("nginx-that-waits", f'[ "$1" != -t ] || {{ echo >>{folder}/asked; [ $(wc -l <{folder}/asked) != 2 ] || sleep 60; }}')
    process = subprocess.Popen([os.path.join(ROOT, "packaging/install"), *words], start_new_session=True, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, env={**os.environ, **env})
    asked = os.path.join(folder, "asked")
    wait_until(lambda: os.path.exists(asked) and os.path.getsize(asked) == 2, "nginx to be asked")
    os.remove(asked)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@tap.case("killed in the middle: what was there still is, or is again with the next run, and nothing is forgotten")
def _():
    before = tree()
    killed("install")
    build("uninstall", expect=1)
    tap.is_(tree(), before, "the tree, after a first installation")
    build("install")
    installed = tree()
    with open(MODULE, "rb") as file:
        old = file.read()
    killed("install")
    tap.ok(os.path.exists(MODULE), "nginx can start all the time")
    tap.like(build("install", expect=1, NGINX_SRC=folder), "is no source")
    killed("remove")
    tap.like(build("install"), "one before was interrupted: undoing what it did")
    with open(MODULE, "rb") as file:
        tap.ok(file.read() == old, "the module")
    tap.is_(tree(), installed, "the tree")
    build("uninstall")
    tap.is_(tree(), before, "the tree, at last")
    os.makedirs("/var/lib/ngx_http_rooms/before")
    tap.like(build("uninstall", expect=1), "nothing is here")
    tap.is_(tree(), before, "the tree, after one that was killed before it noted anything")


@tap.case("what somebody else has put there after a run that was killed is theirs")
def _():
    os.makedirs("/usr/share/nginx/modules-available", exist_ok=True)
    before = tree()
    killed("install")
    write(MODULE + ".theirs", "a package's module")
    os.replace(MODULE + ".theirs", MODULE)
    os.remove(LINK)
    available = "/usr/share/nginx/modules-available/mod-http-rooms.conf"
    write(available, "# a package's\n")
    os.symlink(available, LINK)
    said = build("uninstall", expect=1)
    for path in (MODULE, available, LINK):
        tap.like(said, f"{path} has been written by somebody else since: it stays")
    with open(MODULE, encoding="ascii") as file:
        tap.is_(file.read(), "a package's module", MODULE)
    tap.is_(os.path.realpath(LINK), available, "the link")
    tap.like(build("install", expect=1), f"{MODULE} is there already, and not of ./build.sh install: move it away first")
    os.remove(MODULE)
    tap.like(build("install", expect=1), f"{available} is there already")
    os.remove(available)
    os.remove(LINK)
    write(LINK, "# mine\n")
    tap.like(build("install", expect=1), f"{LINK} is there already")
    os.remove(LINK)
    tap.is_(tree(), before, "the tree")


@tap.case("of two nginx each has a module and a file of its own, and one that is uninstalled leaves the other's; names with spaces are quoted")
def _():
    before = tree()
    build("install")
    first = tree()
    conf, modules = f"{folder}/my nginx/nginx.conf", f"{folder}/my nginx/modules"
    os.makedirs(f"{folder}/my nginx/modules-enabled")
    env = other_nginx("my-nginx", f"""[ "$1" != -V ] || {{ /usr/sbin/nginx -V 2>&1 |
    sed "s|--modules-path=[^ ]*|--modules-path='{modules}'|; s|--conf-path=[^ ]*|--conf-path='{conf}'|" >&2; exit; }}
exec /usr/sbin/nginx "$@" -c '{conf}'""")
    write(conf, "include modules-enabled/*.conf;\nevents {}\n")
    module, link = f"{modules}/{os.path.basename(MODULE)}", f"{folder}/my nginx/modules-enabled/50-mod-http-rooms.conf"
    tap.like(build("install", **env), f"{module}, loaded by {link}")
    with open(link, encoding="utf-8") as file:
        tap.is_(file.read(), f'load_module "{module}";\n', link)
    run("nginx", "-t")
    build("install", **env)
    write(conf, "include modules-enabled/*.conf;\nevents {}\nhttp { rooms_zone main:1m; }\n")
    tap.like(build("uninstall", expect=1, **env), 'unknown directive "rooms_zone"')
    write(conf, f'load_module "{module}";\nevents {{}}\n')
    build("install", **env)
    write(conf, "include modules-enabled/*.conf;\nevents {}\n")
    tap.like(build("uninstall", **env), re.escape(f"removed: {module}"))
    tap.is_([tree(), os.listdir(modules) if os.path.isdir(modules) else []], [first, []], "the first one's")
    tap.like(build("uninstall", expect=1, **env), "nothing is here of ./build.sh install for .*; elsewhere: NGINX_BINARY=/usr/sbin/nginx")
    build("uninstall")
    tap.is_(tree(), before, "the tree")


@tap.case("a configuration that was broken before is not blamed on the module; a module that is gone is no link that was taken away")
def _():
    before = tree()
    write("/etc/nginx/conf.d/broken.conf", "no_such_directive on;\n")
    tap.like(build("install", expect=1), "nginx -t fails, and did before: all is as it was")
    os.remove("/etc/nginx/conf.d/broken.conf")
    build("install")
    write("/etc/nginx/conf.d/broken.conf", "no_such_directive on;\n")
    tap.like(build("uninstall", expect=1), "/usr/sbin/nginx -t fails, and did before: all is as it was. Mend the configuration first")
    os.remove("/etc/nginx/conf.d/broken.conf")
    os.remove(MODULE)
    os.remove(LINK)
    tap.like(build("install"), f"loaded by {LINK}")
    build("uninstall")
    tap.is_(tree(), before, "the tree")


@tap.case("two at a time do not mix; a link that was taken away stays away; another file that is loaded is named")
def _():
    before = tree()
    with open("/run/ngx_http_rooms.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        tap.like(build("install", expect=1), "another install or uninstall is running")
    build("install")
    os.remove(LINK)
    tap.like(build("install"), f"not loaded: {LINK} has been taken away since")
    tap.ok(not os.path.lexists(LINK), "no link")
    build("uninstall")
    with open("/etc/nginx/nginx.conf", encoding="utf-8") as file:
        conf = file.read()
    other = os.path.join(folder, "ngx_http_rooms_module.so")
    shutil.copy(os.path.join(ROOT, "build/ngx_http_rooms_module.so"), other)
    write("/etc/nginx/nginx.conf", f"worker_rlimit_nofile 1024; load_module\n  \"{other}\";\n" + conf)
    tap.like(build("install", expect=1), f"/etc/nginx/nginx.conf loads {other}: take that line out")
    write("/etc/nginx/nginx.conf", conf)
    tap.is_(tree(), before, "the tree")


@tap.case("what a package has installed is left to the package")
def _():
    os.makedirs(os.path.dirname(MODULE), exist_ok=True)
    write(MODULE, "")
    write("/var/lib/dpkg/info/libnginx-mod-http-rooms.list", f"/.\n{MODULE}\n")
    with open("/var/lib/dpkg/status", "a", encoding="utf-8") as file:
        file.write("Package: libnginx-mod-http-rooms\nStatus: install ok installed\nMaintainer: x <x@example.org>\nArchitecture: amd64\n"
                   "Version: 1\nDescription: x\n\n")
    os.makedirs("/var/lib/ngx_http_rooms")
    write("/var/lib/ngx_http_rooms/" + MODULE.replace("/", "%"), f"nginx /usr/sbin/nginx\nfile {MODULE}\n")
    tap.like(build("uninstall", expect=1), f"{MODULE} is of the package libnginx-mod-http-rooms by now")
    tap.ok(os.path.exists(MODULE), "the package's module")
    tap.like(build("install", expect=1), "is of the package libnginx-mod-http-rooms: apt-get remove libnginx-mod-http-rooms")


try:
    tap.run()
finally:
    site.stop()
