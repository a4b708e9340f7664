# Examples of the documentation as they stand there: the block of a page by its info string ("nginx after"), lines for a shell
# pasted into one, and a whole nginx.conf of a page on a port, in a directory and with files of the test's own.
import os
import re
import subprocess

from . import ROOT, SCALE
from .nginx import MODULE, Nginx

MODULES = "/usr/lib/nginx/modules"


def page(name):
    with open(os.path.join(ROOT, name), encoding="utf-8") as file:
        return file.read()


def block(text, info):
    """The one block of the page with this info string. In a list it is indented."""
    found = re.findall(rf"^( *)```{re.escape(info)}\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    assert len(found) == 1, f"{len(found)} blocks of ```{info}"
    indent, lines = found[0]
    return re.sub(rf"^{indent}", "", lines, flags=re.MULTILINE)


def replaced(text, words):
    """The text with each word, all of which must be there, replaced."""
    for word, by in words.items():
        assert word in text, f"the page has no {word!r}"
        text = text.replace(word, str(by))
    return text


def paste(text, expect=0):
    """What a shell prints that is given this text. stderr (curl's progress, openssl's dots) is shown when it fails."""
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", text], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=20 * SCALE)
    assert done.returncode == expect, f"{text}\nexit code {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


class Example(Nginx):
    """An nginx with a page's whole configuration. words: {what stands there: what is put in its place}, all of which must be
    there. files: {path that stands there: content}, written into the test's directory."""

    def __init__(self, text, words=None, files=None, **options):
        self.words = words or {}
        self.names = {path: os.path.basename(path) for path in files or {}}
        super().__init__(conf="", start=False, **options)
        for path, content in (files or {}).items():
            self.write(self.names[path], content)
        self.take(text)
        self.start()

    def take(self, text):
        """For the next start or reload: another one, with the same words."""
        text = replaced(text, {"listen 8080;": f"listen 127.0.0.1:{self.port};",
                               "events { }": "events { worker_connections 1024; }", **self.words})
        for path, name in self.names.items():
            text = text.replace(path, self.path(name))
        text = re.sub(r"^load_module modules/(\S+);", lambda found: f"load_module {_module(found[1])};", text, flags=re.MULTILINE)
        paths = "".join(f"{name}_temp_path {self.dir}/{name}; " for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        user = "user root;" if os.geteuid() == 0 else ""
        self.whole = (f"{user} daemon off; worker_processes {self.workers_wanted}; pid {self.dir}/nginx.pid;\n"
                      f"error_log {self.dir}/error.log info;\n"
                      + text.replace("http {", f"http {{ access_log {self.dir}/access.log; {paths}", 1))


def _module(name):
    return MODULE if name == os.path.basename(MODULE) else os.path.join(MODULES, name)
