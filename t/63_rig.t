#!/usr/bin/python3
"""The rig can fail: with a mistake that is switched on in a build with fault points (src/store/fault_point.hpp) it says so."""
import os
import re
import subprocess
import sys
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "lib"))
MODULE = os.environ.get("ROOMS_MODULE_FAULTS") or os.path.join(HERE, "../build/module-faults/ngx_http_rooms_module.so")
from rooms import ASAN, SCALE, tap                                      # noqa: E402
from rooms.matrix import COMMAND                                  # noqa: E402

RIG = [sys.executable, COMMAND, "--clients", "40"]


def run(bug, *command, **env):
    """(exit code, what it printed)"""
    done = subprocess.run(command, env={**os.environ, "ROOMS_MODULE": MODULE, "ROOMS_BUG": bug, **env}, capture_output=True, text=True,
                          timeout=200 * SCALE, check=False)
    return done.returncode, done.stdout + done.stderr


def finds(bug, wanted, *command, **env):
    if ASAN and bug == "skip_resubscribe":
        tap.skip("deadlines are stretched under the sanitizer, and what heals by itself is no find then")
    # To the letter: what heals by itself, and in time where deadlines are stretched, is no find.
    letter = {"ROOMS_TIME_SCALE": "1"} if bug == "skip_resubscribe" else {}
    code, output = run(bug, *command, **env, **letter)
    tap.ok(code != 0, f"it says that all is well with {bug}:\n{output}")
    tap.ok(re.search(wanted, output), f"{wanted} in\n{output}")
    code, output = run("none", *command, **env)
    tap.is_(code, 0, f"without a bug\n{output}")


tap.add("one subscription is forgotten where all are made anew: a client waits too long", finds, "skip_resubscribe",
        "late: ", *RIG, "--seconds", "9", "client_kill_pubsub")
tap.add("an expired token is taken: somebody is let in", finds, "accept_expired", "let in: somebody with an expired token",
        *RIG, "--seconds", "3", "--on", "zone", "worker_killed")
tap.add("one row of the outbox in a hundred is dropped: a page misses it", finds, "drop_outbox_row", "not ok",
        os.path.join(HERE, "89_postgres_deaths.t"), ROOMS_ONLY="the worker is killed again and again at outbox:published",
        ROOMS_MODULE_FAULTS=MODULE)
if not os.path.exists(MODULE):
    print(f"1..0 # SKIP no module with fault points: make module-faults ({MODULE})")
    sys.exit(0)
tap.run()
