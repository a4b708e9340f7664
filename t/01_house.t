#!/usr/bin/python3
"""The doors of the house: build.sh on machines that lack something, and `config` as packagers use it."""
import os
import pathlib
import re
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import ROOT, tap                               # noqa: E402
from rooms.nginx import free_port                         # noqa: E402

NGX_SRC = pathlib.Path(os.environ.get("NGX_SRC", "/usr/share/nginx/src"))


class Machine:
    """A directory whose commands come before the system's: what is not installed is said by a false dpkg-query."""

    def __init__(self, **commands):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="rooms-house."))
        self.dir.chmod(0o755)
        self.policy = self.dir / "policy-rc.d"
        self.clusters = self.dir / "createcluster.d"
        for name, script in commands.items():
            file = self.dir / name.replace("_", "-")
            file.write_text(f"#!/bin/bash\n{script}\n")
            file.chmod(0o755)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.dir)

    def build(self, *arguments, **env):
        return subprocess.run(
            ["/bin/bash", f"{ROOT}/build.sh", *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, check=False, timeout=60,
            env=dict(os.environ, PATH=f"{self.dir}:/usr/bin:/bin", ROOMS_POLICY_RC_D=str(self.policy),
                     ROOMS_CREATECLUSTER_D=str(self.clusters), **env))


@tap.case("without root and without sudo, build.sh prints the one apt line and ends with 1")
def _():
    with Machine(dpkg_query="exit 1", id="echo 1000", sudo="exit 1") as machine:
        done = machine.build("test")
        tap.is_(done.returncode, 1, "exit code")
        tap.like(done.stdout, r"^  apt-get install -y --no-install-recommends nginx nginx-dev .*libcmocka-dev")
        tap.is_(len(re.findall("apt-get", done.stdout)), 1, "apt lines")


@tap.case("`run` asks for fewer packages than `test`")
def _():
    with Machine(dpkg_query="exit 1", id="echo 1000", sudo="exit 1") as machine:
        done = machine.build("run", PORT=str(free_port()))
        tap.is_(done.returncode, 1, "exit code")
        tap.like(done.stdout, "apt-get install .*nginx-dev")
        tap.unlike(done.stdout, "chromium|valgrind|cmocka")


@tap.case("with sudo, the packages are installed through it")
def _():
    with Machine(dpkg_query="exit 1", id="echo 1000", sudo='echo "sudo: $*"') as machine:
        tap.like(machine.build("module").stdout, r"^sudo: .*build\.sh --install-as-root nginx nginx-dev")


@tap.case("the list of targets, and what is no target, need no packages")
def _():
    with Machine(dpkg_query="exit 1", id="echo 1000", sudo="exit 1") as machine:
        tap.like(machine.build("--help").stdout, "^module  .*build/ngx_http_rooms_module.so")
        tap.is_(machine.build("unistall").stdout, "build.sh: there is no target unistall: ./build.sh help\n", "a typo")


SHOW_POLICY = 'echo "apt-get $1: $(bash -c "$ROOMS_POLICY_RC_D"; echo $?)" >>"${0%/*}/seen"'


@tap.case("while packages are installed, policy-rc.d forbids every service to start, and is gone afterwards")
def _():
    with Machine(apt_get=SHOW_POLICY, systemctl="") as machine:
        tap.is_(machine.build("--install-as-root", "nginx").returncode, 0, "exit code")
        tap.is_((machine.dir / "seen").read_text(), "apt-get update: 101\napt-get install: 101\n", "policy")
        tap.ok(not machine.policy.exists(), "policy-rc.d is gone")


@tap.case("while packages are installed, no database cluster is made; afterwards that is as it was")
def _():
    with Machine(apt_get='cat "$ROOMS_CREATECLUSTER_D"/*.conf >"${0%/*}/seen"', systemctl="") as machine:
        tap.is_(machine.build("--install-as-root", "postgresql").returncode, 0, "exit code")
        tap.like((machine.dir / "seen").read_text(), "^create_main_cluster = false$")
        tap.is_(list(machine.clusters.iterdir()), [], "what is left")


@tap.case("policy-rc.d is gone after an installation that failed")
def _():
    with Machine(apt_get='[ "$1" != install ] || { echo no space left; exit 100; }', systemctl="") as machine:
        done = machine.build("--install-as-root", "nginx")
        tap.is_(done.returncode, 1, "exit code")
        tap.like(done.stdout, "no space left")
        tap.ok(not machine.policy.exists(), "policy-rc.d is gone")


@tap.case("a policy-rc.d that was there before is there again, with its mode")
def _():
    with Machine(apt_get=SHOW_POLICY, systemctl="") as machine:
        machine.policy.write_text("#!/bin/sh\nexit 7\n")
        machine.policy.chmod(0o750)
        for _ in range(2):
            tap.is_(machine.build("--install-as-root", "nginx").returncode, 0, "exit code")
            tap.is_(machine.policy.read_text(), "#!/bin/sh\nexit 7\n", "the file")
            tap.is_(stat.S_IMODE(machine.policy.stat().st_mode), 0o750, "its mode")
        tap.unlike((machine.dir / "seen").read_text(), "7$", "what apt-get saw")


@tap.case("the policy-rc.d of a build.sh that was killed is not taken for somebody's own")
def _():
    with Machine(apt_get='kill -9 "$PPID"', systemctl="") as machine:
        machine.build("--install-as-root", "nginx")
        tap.ok(machine.policy.exists(), "the killed one left it")
        (machine.dir / "apt-get").write_text("#!/bin/sh\n")
        machine.build("--install-as-root", "nginx")
        tap.ok(not machine.policy.exists(), "policy-rc.d is gone")


@tap.case("a busy port is named, with the command that takes another")
def _():
    with Machine() as machine, socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        done = machine.build("run", PORT=str(port))
        tap.is_(done.returncode, 1, "exit code")
        tap.like(done.stdout, rf"port {port} is taken.*: PORT=9000 \./build\.sh run")


@tap.case("a PORT that is no port is refused")
def _():
    with Machine() as machine:
        for port in ("http", "0", "65536", "80 80"):
            done = machine.build("run", PORT=port)
            tap.is_(done.returncode, 1, f"exit code of PORT={port}")
            tap.like(done.stdout, "is not a port")


@tap.case("a plain ./configure --add-dynamic-module takes every source in order, and every header as a dependency")
def _():
    with tempfile.TemporaryDirectory(prefix="rooms-config.") as tree:
        for part in ("auto", "src"):
            os.symlink(NGX_SRC / part, f"{tree}/{part}")
        # In a checkout it is among its parts.
        configure = NGX_SRC / "configure"
        os.symlink(configure if configure.exists() else NGX_SRC / "auto/configure", f"{tree}/configure")
        env = {name: value for name, value in os.environ.items() if not name.startswith("ROOMS_")}
        done = subprocess.run(["./configure", "--with-compat", f"--add-dynamic-module={ROOT}"], cwd=tree, env=env,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        tap.is_(done.returncode, 0, f"exit code of configure: {done.stdout[-500:]}")
        makefile = pathlib.Path(tree, "objs/Makefile").read_text()
    sources = sorted(str(file) for file in pathlib.Path(ROOT, "src").rglob("*.cpp"))
    tap.is_(re.findall(rf"^\t({re.escape(ROOT)}/src/\S+\.cpp)", makefile, re.M), sources, "sources")
    headers = tap.like(makefile, r"^ADDON_DEPS = (.*(?:\\\n.*)*)").group(1)
    for header in pathlib.Path(ROOT, "src").rglob("*.hpp"):
        tap.ok(str(header) in headers, f"{header} is a dependency")
    tap.like(makefile, r"^CFLAGS = .*\$\(if \$\(filter %\.cpp %\.hpp,\$\^\),-std=c\+\+20")


def check_links(*pages):
    """links.py on a tree with these pages, a.md and so on: exit code and what it says."""
    with tempfile.TemporaryDirectory(prefix="rooms-links.") as tree:
        os.mkdir(f"{tree}/docs")
        for name, text in zip(("a.md", "docs/b.md"), pages):
            pathlib.Path(tree, name).write_text(text)
        done = subprocess.run(["/usr/bin/python3", f"{ROOT}/t/check/links.py", tree], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr


@tap.case("make check-links: a link leads to a file of the tree and to a heading of it, or is named")
def _():
    b = "# Two `ws` servers, one page\n\n## Again\n\n## Again\n\n[up](../a.md) [here](#again-1)\n"
    good = ("# A\n\n[b](docs/b.md#two-ws-servers-one-page) [`dir`](docs) [web](https://example.com/no) `[code](no.md)`\n\n"
            "```\n[x](no.md)\n```\n")
    tap.is_(check_links(good, b), (0, "links: all 4 of 2 pages lead somewhere\n"), "good links")
    for link, why in (("docs/c.md", "no such file"), ("docs/b.md#again-2", "no such heading"), ("#b", "no such heading"),
                      ("../a.md", "no such file"), ("docs/b.md#x", "no such heading")):
        tap.is_(check_links(f"{good}\n[a\nbreak]({link})\n", b), (1, f"a.md: {link}: {why}\n"), link)


tap.run()
