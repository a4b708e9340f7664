# The test harness: a real nginx (nginx), a WebSocket client that speaks octets (ws), HTTP (http), tokens (jwt)
# and TAP (tap). Python's standard library only. t/README.md says how a test is written with it.
import os
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
ASAN = os.environ.get("ROOMS_ASAN") == "1"
with open(os.path.join(ROOT, "VERSION"), encoding="ascii") as _file:
    VERSION = _file.read().strip() + ("+faults" if ASAN else "")    # of the module under test; that one has fault points


def _slowness():
    """Of this machine now, with all that runs on it, beside the one that the deadlines are for when it is idle: 1 to 4."""
    began, n = time.monotonic(), 0
    while n < 1000000:      # 25 ms there: longer than others' turns on a core
        n += 1
    return min(max(1.0, (time.monotonic() - began) / 0.025), 4.0)


# Slow and busy machines, sanitizers and valgrind stretch every deadline by one factor.
SCALE = float(os.environ.get("ROOMS_TIME_SCALE") or (4 if ASAN else 1) * _slowness())
TIMEOUT = 8 * SCALE
# Every nginx of the test gets a rooms_redis with a prefix of its own: see on_redis.py.
ON_REDIS = bool(os.environ.get("ROOMS_BROKER"))


def wait_until(condition, what, timeout=TIMEOUT):
    """Polls until condition() is true and returns its value; AssertionError names what was awaited."""
    end = time.monotonic() + timeout
    pause = 0.002
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {timeout:g} s in vain for: {what}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)
