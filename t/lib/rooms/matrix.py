# Runs of t/faults/run, some at once: they wait for clocks more than for processors.
import json
import os
import subprocess
import sys
import tempfile

from . import ROOT, SCALE, wait_until
from .nginx import _die_with_parent

COMMAND = os.path.join(ROOT, "t/faults/run")
AT_ONCE = 3


class Matrix:
    """runs: (fault, broker, secure) of each. options: of all. directory: for their figures; None: they are not kept."""

    def __init__(self, runs, options, directory=None):
        self.runs, self.options, self.directory = list(runs), options, directory
        self.running, self.ended = {}, {}

    def command(self, run):
        name, broker, secure = run
        return [sys.executable, COMMAND, *self.options, "--on", broker, *(["--secure"] if secure else []), name]

    def _path(self, run):
        return os.path.join(self.directory, f"{self.runs.index(run)}.json")

    def _proceed(self, wanted):
        for run, (process, output) in list(self.running.items()):
            if process.poll() is not None:
                output.seek(0)
                self.ended[run] = process.returncode, output.read()
                output.close()
                del self.running[run]
        for run in self.runs:
            if len(self.running) < AT_ONCE and run not in self.running and run not in self.ended:
                output = tempfile.TemporaryFile("w+", encoding="utf-8")
                results = ["--results", self._path(run)] if self.directory else []
                self.running[run] = subprocess.Popen(self.command(run) + results, stdin=subprocess.DEVNULL, stdout=output,
                                                     stderr=subprocess.STDOUT, preexec_fn=_die_with_parent), output
        return wanted in self.ended

    def result(self, run, timeout=240):
        """(exit code, what it printed), once it has ended."""
        wait_until(lambda: self._proceed(run), f"{run} to end", timeout * SCALE)
        return self.ended[run]

    def figures(self, run):
        """What it counted; nothing where it came to no end."""
        try:
            with open(self._path(run), encoding="utf-8") as file:
                return json.load(file)
        except OSError:
            return []
