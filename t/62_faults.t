#!/usr/bin/python3
"""Redis fails in every way that t/faults/redis.py knows, each for a few seconds: what was answered 200 is at each member
once, in order, or the member was told. `t/faults/redis.py` runs them at full length."""
import os
import subprocess
import sys
import tempfile
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "lib"))
from rooms import SCALE, tap, wait_until                      # noqa: E402
from rooms.nginx import _die_with_parent                      # noqa: E402

RIG = os.path.join(HERE, "faults/redis.py")
FAULTS = [name for name in subprocess.run([sys.executable, RIG, "--list"], capture_output=True, text=True,
                                          check=True).stdout.split() if name != "calm"]
OPTIONS = ["--seconds", "3", "--clients", "100"]
AT_ONCE = 3     # they wait for clocks more than for processors
running, ended = {}, {}


def proceed(wanted):
    """Keeps AT_ONCE of them running. True when `wanted` has ended."""
    for name, (process, output) in list(running.items()):
        if process.poll() is not None:
            output.seek(0)
            ended[name] = process.returncode, output.read()
            output.close()
            del running[name]
    for name in FAULTS:
        if len(running) < AT_ONCE and name not in running and name not in ended:
            output = tempfile.TemporaryFile("w+", encoding="utf-8")
            running[name] = subprocess.Popen([sys.executable, RIG, *OPTIONS, name], stdin=subprocess.DEVNULL, stdout=output,
                                             stderr=subprocess.STDOUT, preexec_fn=_die_with_parent), output
    return wanted in ended


def survives(name):
    wait_until(lambda: proceed(name), f"{name} to end", 120 * SCALE)
    code, output = ended[name]
    tap.is_(code, 0, f"exit code of t/faults/redis.py {' '.join(OPTIONS)} {name}\n{output}")
    tap.diag(output)


for fault in FAULTS:
    tap.add(f"{fault}: nothing lost, nothing twice, all in order", survives, fault)
tap.run()
