# A program of a page's under node, with the packages that it imports, and what it says: a line each. It ends with the test.
import json
import os
import shutil
import subprocess
import tempfile
import threading

from . import ROOT, TIMEOUT, started, wait_until
from .nginx import _die_with_parent

PACKAGES = {name: f"t/node_modules/{name}" for name in ("ws", "jose")} | {"rooms-client": "client"}


class Script:
    """files: {name: text}. The first is run, with these arguments."""

    def __init__(self, files, *arguments, env=None):
        self.dir = tempfile.mkdtemp(prefix="rooms-t-script-")
        for name, text in files.items():
            with open(os.path.join(self.dir, name), "w", encoding="utf-8") as file:
                file.write(text)
        os.mkdir(os.path.join(self.dir, "node_modules"))
        for name, place in PACKAGES.items():
            os.symlink(os.path.join(ROOT, place), os.path.join(self.dir, "node_modules", name))
        self.lines = []
        env = {**os.environ, **{name: str(value) for name, value in (env or {}).items()}}
        self.process = subprocess.Popen(["node", next(iter(files)), *arguments], cwd=self.dir, env=env, text=True,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        preexec_fn=_die_with_parent)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        started.add(self)

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def wait(self, condition, what):
        """condition(lines); ends early when the program does."""
        def now():
            ended = self.process.poll() is not None
            if value := condition(self.lines):
                return value
            assert not ended, f"{what}: the program has ended: {self.lines}"
            return None
        try:
            return wait_until(now, what, TIMEOUT)
        except AssertionError as error:
            raise AssertionError(f"{error}\nit said: {self.lines}") from None

    def ready(self):
        self.wait(lambda lines: "ready" in lines, "ready")
        return self

    def said(self, kind):
        """Of lines ["kind", value] the values."""
        return [value for of, value in map(json.loads, list(self.lines)) if of == kind]

    def close(self):
        started.remove(self)
        self.process.kill()
        self.process.wait()
        self.reader.join(TIMEOUT)
        shutil.rmtree(self.dir, ignore_errors=True)
