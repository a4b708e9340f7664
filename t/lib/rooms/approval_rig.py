# t/faults/approvals.py and approvals_redis.py, which run at full length there.
import json
import os
import subprocess
import sys

from . import ROOT, SCALE, tap


def run(rig, kind, count, stretch=1):
    """What the rig says of this kind; nothing may be wrong. stretch: how much wider its races are."""
    done = subprocess.run([sys.executable, os.path.join(ROOT, "t/faults", rig), "--count", str(count), kind], stdin=subprocess.DEVNULL,
                          env={**os.environ, "ROOMS_TIME_SCALE": str(SCALE * stretch)}, capture_output=True, text=True, check=False,
                          timeout=300 * SCALE * stretch)
    tap.is_((done.returncode, done.stderr), (0, ""), f"exit code and errors; {done.stdout}")
    tap.diag(done.stdout)
    return json.loads(done.stdout)


def race(rig, kind):
    """Decisions against deadlines, wider until neither of them has lost all: who decides is late on a busy machine."""
    for stretch in (1, 4, 16):
        ended = run(rig, kind, 200, stretch)["ended"]
        if min(ended.get(status, 0) for status in ("approved", "rejected", "timeout")) > 0:
            return
    raise AssertionError(f"one of them has lost all: {ended}")
