#!/usr/bin/python3
"""The package for Debian that `make deb` has built, on this machine's own nginx (overlaid): installed, upgraded, removed, purged.
Not one of t/*.t, for the package takes minutes to build: `make deb-check`."""
import glob
import os
import re
import sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import ROOT, VERSION, example, http, tap                          # noqa: E402
from rooms.overlaid import LINK, MODULE, Site, enter, run, tree, write       # noqa: E402

NAME = "libnginx-mod-http-rooms"
DOC = f"/usr/share/doc/{NAME}"
DEB, = glob.glob(os.path.join(ROOT, f"build/{NAME}_{VERSION}-1_*.deb"))
folder = enter()
# Nobody but this test reloads anything; documentation is installed on minimal systems, too.
write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n")
os.chmod("/usr/sbin/policy-rc.d", 0o755)
for name in glob.glob("/etc/dpkg/dpkg.cfg.d/*"):
    os.remove(name)
site = Site(folder)
untouched = tree()


def state():
    return run("dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", NAME, check=False).stdout


def next_version():
    """The same package, one revision later."""
    unpacked, deb = os.path.join(folder, "unpacked"), os.path.join(folder, "next.deb")
    run("dpkg-deb", "-R", DEB, unpacked)
    control = os.path.join(unpacked, "DEBIAN/control")
    with open(control, encoding="utf-8") as file:
        text = file.read()
    write(control, example.replaced(text, {f"Version: {VERSION}-1": f"Version: {VERSION}-2"}))
    run("dpkg-deb", "-b", unpacked, deb)
    return deb


@tap.case("lintian finds nothing")
def _():
    answer = run("lintian", "--fail-on", "error,warning", DEB, check=False)
    tap.is_((answer.returncode, answer.stdout), (0, ""), f"lintian {answer.stderr}")


@tap.case("it depends on the ABI of the nginx for which it was built, and on libraries alone")
def _():
    depends = run("dpkg-deb", "-f", DEB, "Depends").stdout
    tap.like(depends, r"^nginx-abi-\d+\.\d+\.\d+-\d+,")
    tap.is_([name for name in re.findall(r"[a-z][\w.+-]*", re.sub(r"\(.*?\)", "", depends))
             if not re.match(r"nginx-abi-|libc6|libgcc-s1|libhiredis|libpq5|libssl3|libstdc\+\+6|zlib1g", name)], [], "other packages")


@tap.case("installed, it is enabled as other modules are; the README's lines added, wss and /publish work")
def _():
    run("dpkg", "-i", DEB)
    tap.is_(os.readlink(LINK), "/usr/share/nginx/modules-available/mod-http-rooms.conf", "link")
    run("nginx", "-t")
    site.app_answers()
    site.add_rooms()
    site.rooms_work()


@tap.case("with it come the pages, the migrations, and examples that are whole configurations")
def _():
    for name in ("README.md", "docs/directives.md", "docs/monitoring/alerts.yml", "docs/openapi.yaml", "copyright", "changelog.gz"):
        tap.ok(os.path.getsize(os.path.join(DOC, name)), name)
    migrations = f"/usr/share/{NAME}/migrations"
    tap.is_(sorted(os.listdir(migrations)), sorted(os.listdir(os.path.join(ROOT, "migrations"))), "migrations")
    tap.ok(os.access(os.path.join(migrations, "migrate"), os.X_OK), "migrate is a command")
    with open(os.path.join(DOC, "examples/nginx.conf"), encoding="utf-8") as file:
        text = file.read()
    whole = os.path.join(folder, "example.conf")
    write(whole, example.replaced(text, {"load_module modules/": "load_module /usr/lib/nginx/modules/"}))
    run("nginx", "-t", "-c", whole)
    with open(os.path.join(DOC, "examples/site.conf"), encoding="utf-8") as file:
        tap.is_(file.read(), example.block(example.page("docs/operations.md"), "nginx site"), "examples/site.conf")


@tap.case("no link of its pages leads to what only the source has; the command that docs/postgres.md names is there")
def _():
    done = run(sys.executable, os.path.join(ROOT, "t/check/links.py"), DOC, check=False)
    tap.is_((done.returncode, done.stderr), (0, ""), f"links {done.stdout}")
    for name in ("CHANGELOG.md", "examples/publish.lua", "bench/results/plot.svg"):
        tap.ok(os.path.getsize(os.path.join(DOC, name)), name)
    with open(os.path.join(DOC, "docs/postgres.md"), encoding="utf-8") as file:
        commands = re.findall(r"^ +(/\S+/migrate) ", file.read(), re.MULTILINE)
    tap.ok(commands, "a command")
    for command in commands:
        tap.ok(os.access(command, os.X_OK), command)


@tap.case("its maintainer is told by the line of SECURITY.md; who built it without a name is nobody whom mail reaches")
def _():
    told = example.paste(example.block(example.page("SECURITY.md"), "sh package")).strip()
    tap.is_(told, run("dpkg-deb", "-f", DEB, "Maintainer").stdout.strip(), "maintainer")
    if "DEBEMAIL" not in os.environ:
        tap.like(told, r"@rooms\.invalid>$")
        tap.like(example.page("SECURITY.md"), r"`rooms\.invalid`")


@tap.case("upgraded while it runs: the sockets stay, the new file is there; a module that its operator has disabled stays so")
def _():
    before = os.stat(MODULE).st_ino, site.workers()
    deb = next_version()
    run("dpkg", "-i", deb)
    tap.is_(state(), f"installed {VERSION}-2")
    tap.isnt(os.stat(MODULE).st_ino, before[0], "the file")
    tap.is_(site.workers(), before[1], "workers")
    site.rooms_work()
    site.reload()
    site.rooms_work()
    site.remove_rooms()
    os.remove(LINK)
    run("dpkg", "-i", DEB)
    tap.ok(not os.path.lexists(LINK), "not enabled")
    os.symlink("/usr/share/nginx/modules-available/mod-http-rooms.conf", LINK)


@tap.case("removed: nginx -t is green; purged: everything is as it was before")
def _():
    run("dpkg", "-r", NAME)
    tap.ok(not os.path.lexists(LINK) and not os.path.exists(MODULE), "not there")
    run("nginx", "-t")
    site.app_answers()
    run("dpkg", "-P", NAME)
    tap.is_(tree(), untouched, "the tree")
    tap.is_(http.get(site.address, "/", tls=True).status, 200, "the application")


try:
    tap.run()
finally:
    site.stop()
