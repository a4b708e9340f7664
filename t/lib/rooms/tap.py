# TAP for prove: a file registers cases, run() runs each as one line. A case ends at its first unmet expectation, the
# next one goes on. After each case every nginx of the file must have the same workers and a clean log, and at the end
# each is stopped and must leave no alert, no sanitizer report and no process.
import os
import re
import sys
import time
import traceback

from . import ON_REDIS
from . import nginx as _nginx

_cases = []
_count = 0
_failed = 0


class Failed(AssertionError):
    pass


class Skipped(Exception):
    pass


def diag(text):
    for line in str(text).rstrip("\n").split("\n"):
        print("# " + line, flush=True)


def show(value, limit=600):
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"


def line(good, name, why=None):
    """Prints one TAP line by hand; cases do it for you."""
    global _count, _failed
    _count += 1
    if not good:
        _failed += 1
    name = str(name).replace("#", "\\#").replace("\n", " ")
    print(f"{'ok' if good else 'not ok'} {_count} - {name}", flush=True)
    if not good and why:
        diag(why)
    return good


def fail(why):
    raise Failed(why)


def ok(condition, what="condition"):
    if not condition:
        fail(f"not true: {what}")
    return condition


def is_(got, want, what="value"):
    if got != want:
        fail(f"{what}\n     got: {show(got)}\nexpected: {show(want)}")
    return got


def isnt(got, other, what="value"):
    if got == other:
        fail(f"{what}\n got: {show(got)}\nwanted anything else")
    return got


def in_(got, allowed, what="value"):
    if got not in allowed:
        fail(f"{what}\n     got: {show(got)}\n allowed: {show(allowed)}")
    return got


def like(text, pattern, what="text"):
    found = re.search(pattern, text, re.M)
    if not found:
        fail(f"{what}\n     got: {show(text)}\nexpected to match: {pattern}")
    return found


def unlike(text, pattern, what="text"):
    found = re.search(pattern, text, re.M)
    if found:
        fail(f"{what}\n     got: {show(found.group(0))}\nmust not match: {pattern}")


def skip(why):
    raise Skipped(why)


def case(name, kills_workers=False):
    """Decorator: registers the function as one TAP line. kills_workers: the case may replace worker processes."""
    def register(function):
        _cases.append((name, function, kills_workers))
        return function
    return register


def zone_case(name, kills_workers=False):
    """A case about the zone's own bounds, which Redis has not: not registered with it."""
    return (lambda function: function) if ON_REDIS else case(name, kills_workers)


def zone_add(name, function, *args, **kwargs):
    if not ON_REDIS:
        add(name, function, *args, **kwargs)


def add(name, function, *args, **kwargs):
    """Registers function(*args) as a case; for tables of cases."""
    _cases.append((name, lambda: function(*args, **kwargs), False))


def _report(error):
    if isinstance(error, AssertionError) and str(error):
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "/t/lib/rooms/tap.py" not in f.filename]
        where = ", ".join(f"{os.path.basename(f.filename)}:{f.lineno}" for f in frames[:4])
        return f"{error}\nat {where}"
    return "".join(traceback.format_exception(error))


def run():
    """Runs every case, stops every nginx, prints the plan, leaves with the exit code."""
    only = os.environ.get("ROOMS_ONLY")
    for name, function, kills_workers in _cases:
        if only and not re.search(only, name):
            continue
        started = time.monotonic()
        problems = None
        skipped = None
        try:
            before = [(server, server.workers()) for server in _nginx.running()]
            function()
            for server, workers in before:
                if server.is_running():
                    server.check(None if kills_workers else workers)
        except Skipped as reason:
            skipped = str(reason)
        except KeyboardInterrupt:
            raise
        except Exception as error:
            problems = _report(error)
            for server in _nginx.running():
                server.settle()
        took = time.monotonic() - started
        if skipped is not None:
            _line_skip(name, skipped)
        else:
            line(problems is None, name, problems)
        if os.environ.get("ROOMS_SLOW") and took > float(os.environ["ROOMS_SLOW"]):
            diag(f"took {took:.2f} s")
    finish()


def _line_skip(name, why):
    global _count
    _count += 1
    print(f"ok {_count} - {name} # SKIP {why}", flush=True)


def finish():
    for server in _nginx.all_started():
        problems = server.stop()
        line(not problems, f"{server.name} ends cleanly: no alert, no sanitizer report, no process left",
             "\n".join(problems))
    print(f"1..{_count}", flush=True)
    if _failed:
        diag(f"{_failed} of {_count} failed")
    sys.stdout.flush()
    sys.exit(1 if _failed else 0)
