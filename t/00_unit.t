#!/usr/bin/python3
# Runs every unit program of t/unit and gives prove one TAP stream: each test's line carries the
# name of its program. A program that dies, or prints fewer tests than planned, is a failed test.
#
# ROOMS_UNIT_DIR: where the programs are (build/unit). ROOMS_VALGRIND=1: run them under valgrind.
# Programs are made by `make unit-build`; a test source without its program is a failure.

import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
DIR = pathlib.Path(os.environ.get("ROOMS_UNIT_DIR", ROOT / "build/unit")).resolve()
# Valgrind leaves our own operator new alone: the tests in which the n-th allocation fails need it.
VALGRIND = ["valgrind", "-q", "--leak-check=full", "--errors-for-leak-kinds=definite,possible",
            "--soname-synonyms=somalloc=nouserintercepts", "--error-exitcode=99"] if os.environ.get("ROOMS_VALGRIND") else []
TIMEOUT = 600

LINE = re.compile(r"^(ok|not ok) (\d+)(?: - ?| )?(.*)$")
PLAN = re.compile(r"^1\.\.(\d+)")

count = 0
failed = False


def report(ok, description):
    global count, failed
    count += 1
    failed = failed or not ok
    print(f"{'ok' if ok else 'not ok'} {count} - {description}", flush=True)


def diagnose(text):
    for line in text.splitlines():
        print(f"# {line}", flush=True)


def run(program):
    """Exit status, or why there is none; what it printed; what it complained about."""
    env = dict(os.environ, CMOCKA_MESSAGE_OUTPUT="tap",
               ASAN_OPTIONS="detect_leaks=1:abort_on_error=0",
               UBSAN_OPTIONS="print_stacktrace=1")
    try:
        done = subprocess.run(VALGRIND + [str(program)], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=TIMEOUT,
                              env=env, cwd=ROOT, text=True, errors="replace", check=False)
        return done.returncode, done.stdout, done.stderr
    except subprocess.TimeoutExpired as late:
        return (f"no end within {TIMEOUT} s", (late.stdout or b"").decode(errors="replace"),
                (late.stderr or b"").decode(errors="replace"))


def retell(program, status, out, err):
    name = program.name.removesuffix("_test")
    planned, seen, bad = 0, 0, 0
    for line in out.splitlines():
        if plan := PLAN.match(line):
            planned += int(plan[1])
        elif test := LINE.match(line):
            seen += 1
            bad += test[1] != "ok"
            report(test[1] == "ok", f"{name}: {test[3]}")
        else:
            diagnose(line.lstrip("# "))
    # cmocka's exit status is the number of failed tests
    ended_well = status == 0 if not bad else isinstance(status, int) and status == bad
    if not ended_well or seen != planned or not seen:
        diagnose(err)
        report(False, f"{name}: ended with {status} after {seen} of {planned} tests")
    elif bad:
        diagnose(err)


def main():
    sources = sorted((ROOT / "t/unit").glob("*_test.cpp"))
    print(f"# {len(sources)} programs in {DIR}")
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        results = [(source, pool.submit(run, DIR / source.stem) if os.access(DIR / source.stem, os.X_OK) else None)
                   for source in sources]
        for source, result in results:
            if result:
                retell(DIR / source.stem, *result.result())
            else:
                report(False, f"{source.stem}: not built, `make unit-build`")
    print(f"1..{count}", flush=True)
    return 1 if failed else 0


sys.exit(main())
