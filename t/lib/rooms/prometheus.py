# A real Prometheus for tests: its data in a temporary directory, on a free port of 127.0.0.1, stopped by pid.
import json
import os
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.parse
import urllib.request

from . import SCALE, TIMEOUT, started, wait_until
from .nginx import _die_with_parent

PROGRAM = "/usr/bin/prometheus"


class Prometheus:
    """Started at construction, or by start(). config: the text of prometheus.yml; files: {name: text} beside it. @DIR@ in both
    is where."""

    def __init__(self, config, files=(), start=True):
        self.dir = tempfile.mkdtemp(prefix="rooms-prometheus-")
        self.port = started.port()
        for name, text in {**dict(files), "prometheus.yml": config}.items():
            with open(os.path.join(self.dir, name), "w", encoding="utf-8") as file:
                file.write(text.replace("@DIR@", self.dir))
        if start:
            self.start()

    def start(self):
        with open(os.path.join(self.dir, "log"), "ab") as output:
            self.process = subprocess.Popen(
                [PROGRAM, f"--config.file={self.dir}/prometheus.yml", f"--storage.tsdb.path={self.dir}/data",
                 f"--web.listen-address=127.0.0.1:{self.port}"],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=self.dir, preexec_fn=_die_with_parent)
        started.add(self)
        wait_until(self._ready, "Prometheus to be ready", 2 * TIMEOUT)

    def _ready(self):
        assert self.process.poll() is None, f"Prometheus did not start:\n{self.log()[-3000:]}"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=TIMEOUT) as answer:
                return answer.status == 200
        except OSError:
            return False

    def log(self):
        with open(os.path.join(self.dir, "log"), encoding="utf-8") as file:
            return file.read()

    def api(self, path, **parameters):
        """The data of an answer; what it refuses is raised with its reason."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path} {parameters}: {error.code} {error.read().decode()}") from None

    def query(self, expression):
        """[(labels, value)] of now."""
        return [(one["metric"], float(one["value"][1])) for one in self.api("query", query=expression)["result"]]

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(10 * SCALE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        started.remove(self)
        if os.environ.get("ROOMS_KEEP"):
            print(f"# kept {self.dir}", flush=True)
        else:
            shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
