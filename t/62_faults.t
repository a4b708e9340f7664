#!/usr/bin/python3
"""Each fault that t/faults/run knows happens for a few seconds: what was answered 200 is at each member once, in order, or
the member was told. `make faults` runs them on every broker, `make soak` for an hour."""
import os
import subprocess
import sys
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "lib"))
from rooms import tap                                         # noqa: E402
from rooms.matrix import COMMAND, Matrix                      # noqa: E402

OPTIONS = ["--seconds", "3", "--clients", "100"]


def places():
    """(number, run): where both brokers can have it, the zone in the clear and Redis with TLS and deflate."""
    listed = subprocess.run([sys.executable, COMMAND, "--list"], capture_output=True, text=True, check=True).stdout
    for number, name, *brokers in map(str.split, listed.splitlines()):
        for broker in brokers:
            yield number, (name, broker, broker == "redis" and len(brokers) > 1)


def survives(run):
    code, output = matrix.result(run)
    tap.is_(code, 0, f"exit code of {' '.join(matrix.command(run))}\n{output}")
    tap.diag(output)


matrix = Matrix([run for _, run in places()], OPTIONS)
for fault, place in places():
    described = f"{place[0]} on {place[1]}{' with TLS and deflate' if place[2] else ''}"
    tap.add(f"fault {fault}: {described}: nothing lost, nothing twice, all in order", survives, place)
tap.run()
