#!/usr/bin/python3
"""Twenty thousand sockets end at once and come back (t/faults/storm.py; `make storm` with a hundred thousand)."""
import json
import os
import sys
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "faults"), os.path.join(HERE, "lib")]
from rooms import ASAN, tap                                   # noqa: E402
import storm                                                  # noqa: E402

SOCKETS = 2000 if ASAN else 20000       # the sanitizer's memory


@tap.case(f"fault F28: {SOCKETS:,} sockets end at once and come back: nothing lost, nothing twice, nobody is told of a loss")
def _():
    figures, problems = storm.storm(SOCKETS)
    tap.diag(json.dumps(figures))
    tap.is_(problems, [], "problems")
    tap.is_(figures["dropped_by_the_kernel"], 0, "connections that the kernel dropped")


@tap.case("fault F28: the same of 2,000 with TLS and deflate")
def _():
    figures, problems = storm.storm(2000, secure=True)
    tap.diag(json.dumps(figures))
    tap.is_(problems, [], "problems")


tap.run()
