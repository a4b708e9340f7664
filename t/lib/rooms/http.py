# HTTP/1.1 over a Wire: octets out, a strictly parsed response back. publish() and status() are the module's endpoints.
# No HTTP library, so that a test sees exactly what was on the wire.
import json as _json
import re

from .wire import Wire


class Response:
    def __init__(self, status, reason, headers, body=b"", head=b""):
        self.status = status
        self.reason = reason
        self.headers = headers    # [(name as sent, value)]
        self.body = body
        self.head = head          # status line and header lines as they came

    def all(self, name):
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def get(self, name, default=None):
        """The value of a header that is there at most once."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} came {len(values)} times: {values}"
        return values[0] if values else default

    def tokens(self, name):
        return [token.strip().lower() for value in self.all(name) for token in value.split(",") if token.strip()]

    @property
    def text(self):
        return self.body.decode("utf-8", "replace")

    @property
    def json(self):
        return _json.loads(self.body)

    def __repr__(self):
        return f"<{self.status} {self.head!r} {self.body[:300]!r}>"


def read_response(wire, method="GET", timeout=None):
    """The next response on the wire, None if it ends before one. A 101 has no body: what follows stays in the buffer."""
    head = wire.take_until(b"\r\n\r\n", timeout)
    if head is None:
        assert not wire.buffer, f"stream ended inside a response head: {bytes(wire.buffer)!r}"
        return None
    lines = head[:-4].decode("latin-1").split("\r\n")
    start = re.fullmatch(r"HTTP/1\.1 ([1-5]\d\d) ([^\r\n]*)", lines[0])
    assert start, f"no status line of HTTP/1.1: {lines[0]!r}"
    headers = []
    for text in lines[1:]:
        field = re.fullmatch(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*", text)
        assert field, f"no header field: {text!r}"
        headers.append((field[1], field[2]))
    response = Response(int(start[1]), start[2], headers, head=head)
    if response.status == 101 or response.status in (204, 304) or method == "HEAD":
        return response
    if "chunked" in response.tokens("Transfer-Encoding"):
        parts = []
        while True:
            size = int(wire.take_until(b"\r\n", timeout).split(b";")[0], 16)
            data = wire.take(size + 2, timeout)
            assert data is not None and data.endswith(b"\r\n"), "broken chunk"
            if size == 0:
                break
            parts.append(data[:-2])
        response.body = b"".join(parts)
    elif response.get("Content-Length") is not None:
        response.body = wire.take(int(response.get("Content-Length")), timeout)
        assert response.body is not None, "stream ended inside the body"
    else:
        response.body = wire.take_all(timeout)
    return response


def address_of(server, tls=False, unix=False):
    """server: an Nginx, a unix path or (host, port)."""
    if not hasattr(server, "port"):
        return server
    return server.sock if unix else ("127.0.0.1", server.tls_port if tls else server.port)


def request_octets(method, path, headers=(), body=b"", host="localhost", connection="close"):
    headers = list(headers.items()) if isinstance(headers, dict) else list(headers)
    names = {name.lower() for name, _ in headers}
    lines = [f"{method} {path} HTTP/1.1"]
    if host is not None and "host" not in names:
        lines.append(f"Host: {host}")
    if connection and "connection" not in names:
        lines.append(f"Connection: {connection}")
    if (body or method in ("POST", "PUT")) and not names & {"content-length", "transfer-encoding"}:
        lines.append(f"Content-Length: {len(body)}")
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def request(server, method, path, headers=(), body=b"", *, tls=False, unix=False, host="localhost", timeout=None):
    """One request on a connection of its own."""
    if isinstance(body, str):
        body = body.encode()
    wire = Wire(address_of(server, tls, unix), tls=tls)
    try:
        wire.send(request_octets(method, path, headers, body, host))
        response = read_response(wire, method, timeout)
        assert response is not None, f"{method} {path}: connection ended ({wire.ended}) without a response"
        return response
    finally:
        wire.close()


def get(server, path, **options):
    return request(server, "GET", path, **options)


def raw(server, octets, *, tls=False, unix=False, timeout=None):
    """Sends octets as they are and returns the first response, None if the server closes without one."""
    wire = Wire(address_of(server, tls, unix), tls=tls)
    try:
        wire.send(octets)
        return read_response(wire, timeout=timeout)
    finally:
        wire.close()


def publish(server, publication, *, path="/publish", headers=(), content_type="application/json", expect=200, **options):
    """POSTs a publication (dict, list, or text as it is). Returns the JSON answer; expect=None: the Response."""
    body = publication if isinstance(publication, (str, bytes)) else _json.dumps(publication, separators=(",", ":"))
    fields = list(headers.items()) if isinstance(headers, dict) else list(headers)
    if content_type:
        fields.append(("Content-Type", content_type))
    response = request(server, "POST", path, fields, body, **options)
    if expect is None:
        return response
    assert response.status == expect, f"publish: expected {expect}, got {response!r}"
    return response.json


def status(server, *, path="/status", **options):
    response = request(server, "GET", path, **options)
    assert response.status == 200, f"status: {response!r}"
    return response.json
