# The client's tests, each as one of ours.
import json
import os
import subprocess
import tempfile

from . import ROOT, SCALE, tap

CLIENT = os.path.join(ROOT, "client")


def _raise(text):
    raise AssertionError(text)


def run(*files, **environment):
    """Runs these of client/test; each of their tests becomes a case."""
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        done = subprocess.run(["npx", "vitest", "run", "--reporter=json", "--reporter=default", f"--outputFile.json={report.name}",
                               *(f"test/{file}" for file in files)], cwd=CLIENT, env={**os.environ, "NO_COLOR": "1", "ROOMS_TIME_SCALE": str(SCALE), **environment},
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        text = open(report.name, encoding="utf-8").read()
    tests = []
    for suite in json.loads(text or '{"testResults": []}')["testResults"]:
        tests += suite["assertionResults"]
    for test in tests:
        name = test["fullName"] + (f" ({', '.join(environment.values())})" if environment else "")
        messages = "\n".join(test["failureMessages"])
        tap.add(name, (lambda: None) if test["status"] == "passed" else (lambda text=messages or test["status"]: _raise(text)))
    # What the tests measured, and why a file did not run at all.
    for line in done.stdout.splitlines():
        if " ms" in line and "✓" not in line and "Duration" not in line:
            tap.diag(line)
    tap.add(f"vitest ends well: {', '.join(files)}", lambda: done.returncode == 0 or _raise(done.stdout[-6000:]))
