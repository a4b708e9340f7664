# The documents of docs/ that programs read, and what public validators say of them and of what was on the wire (t/spec).
import json
import os
import subprocess

from . import ROOT, SCALE, http, ws

HERE = os.path.join(ROOT, "t/spec")


def judge(program, document, changes, **what):
    """The verdict of t/spec/PROGRAM on docs/DOCUMENT. changes: of each document that is wrong on purpose, [(pointer, value)];
    None: what stands there is taken away."""
    assert os.path.isdir(os.path.join(ROOT, "t/node_modules/ajv")), "t/node_modules has no ajv: ./build.sh test installs it"
    return _run(program, document, changes=changes, **what)


def bounds(document, bases):
    """The document as it is read, and for each bound of these schemas a value on either side of it, as t/spec/bounds.mjs says.
    bases: {(name, pointer): [values]}"""
    bases = [{"name": name, "at": at, "values": values} for (name, at), values in bases.items()]
    got = _run("bounds.mjs", document, bases=bases)
    return got["root"], got["probes"]


def _run(program, document, **what):
    what["document"] = os.path.join(ROOT, "docs", document)
    done = subprocess.run(["node", os.path.join(HERE, program)], input=json.dumps(what), capture_output=True, text=True,
                          timeout=60 * SCALE, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


class Exchanges:
    """Requests to locations under whatever prefix, and their answers, as the document's paths have them."""

    def __init__(self):
        self.all = []

    def ask(self, name, server, method, target, expect, *, body=None, headers=(), at="", meant=None, **options):
        """The Response, whose status is this (None: any). at: where the server has the document's paths. meant: "wrong" where
        the document must say so of the request, too; "stranger" where it comes from somebody who may not ask."""
        fields = list(headers.items()) if isinstance(headers, dict) else list(headers)
        text = body if body is None or isinstance(body, str) else json.dumps(body)
        if text is not None and not any(key.lower() == "content-type" for key, _ in fields):
            fields.append(("Content-Type", "application/json"))
        fields = [(key, value) for key, value in fields if value is not None]
        answer = http.request(server, method, at + target, fields, b"" if text is None else text.encode(), **options)
        assert expect in (answer.status, None), f"{name}: expected {expect}, got {answer!r}"
        return self.add(name, method, target, answer, fields, text, meant)

    def add(self, name, method, target, answer, headers=(), body=None, meant=None):
        self.all.append({"name": name, "meant": meant, "method": method, "target": target, "headers": list(headers), "body": body,
                         "answer": {"status": answer.status, "headers": answer.headers, "body": answer.text}})
        return answer


class Frames:
    """What is said on sockets, in both directions, and how the server closed them."""

    def __init__(self):
        self.all = []
        self.closes = set()

    def connect(self, name, server, path="/ws", **options):
        """A WebSocket whose texts are kept."""
        return self.keep(name, ws.connect(server, path, **options))

    def keep(self, name, socket):
        send_text, recv, next_frame = socket.send_text, socket.recv, socket.next_frame

        def sent(text, **options):
            self.note(name, "client", text)
            return send_text(text, **options)

        def received(timeout=None):
            opcode, data = recv(timeout)
            self.note(name, "server", data.decode())
            return opcode, data

        def framed(timeout=None):
            got = next_frame(timeout)
            if got is not None and got.opcode == ws.CLOSE:
                self.closes.add(got.code)
            return got
        socket.send_text, socket.recv, socket.next_frame = sent, received, framed
        return socket

    def note(self, name, side, text):
        self.all.append({"name": name, "from": side, "text": text, "meant": None})

    def published(self, socket, **fields):
        """The next message, with these fields, is what was published, whatever its name."""
        got = socket.expect(**fields)
        self.all[-1]["meant"] = "event"
        return got

    def said(self, socket, message, valid):
        """What the server answers to a message that is good, or not, by the document."""
        at = len(self.all)
        socket.send_json(message)
        self.all[at]["meant"] = None if valid else "wrong"
        return socket.expect()

    def refused(self, socket, text, code, *, wrong=True, **fields):
        """Sends it, and gets an error of this code. wrong: the document must say so of the text, too."""
        at = len(self.all)
        socket.send_text(text if isinstance(text, str) else json.dumps(text))
        self.all[at]["meant"] = "wrong" if wrong else None
        return socket.expect(type="error", code=code, **fields)
