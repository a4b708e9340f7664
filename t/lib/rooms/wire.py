# A byte stream to the server: TCP, unix socket or TLS over either. Sending never blocks reading, so that a server which
# answers before it has read everything cannot lock up with us. Knows how the stream ended: "fin", "rst" or None.
import select
import socket
import ssl
import struct
import time

from . import TIMEOUT


class Wire:
    def __init__(self, address, tls=None, server_hostname="localhost", rcvbuf=None):
        """address: path of a unix socket, or (host, port). tls: True, or an ssl.SSLContext."""
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        if rcvbuf:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        self.sock.settimeout(TIMEOUT)
        self.sock.connect(address)
        if family == socket.AF_INET:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self.buffer = bytearray()   # received, not yet taken
        self.ended = None           # how the peer ended its direction
        self.broken = False         # a send failed: the peer no longer takes anything
        self.tls = None
        if tls:
            self._start_tls(tls, server_hostname)

    def _start_tls(self, context, server_hostname):
        if context is True:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(self._in, self._out, server_hostname=server_hostname)
        end = time.monotonic() + TIMEOUT
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._push(self._out.read())
                if not self._wait_readable(end):
                    raise AssertionError("TLS handshake timed out")
                self._pull()
                if self.ended:
                    raise AssertionError(f"TLS handshake: peer ended with {self.ended}")
        self.tls = tls
        self._push(self._out.read())
        self._decrypt()

    def _wait_readable(self, end):
        return bool(select.select([self.sock], [], [], max(0, end - time.monotonic()))[0])

    def _pull(self):
        """One recv. True if something came or the stream ended."""
        try:
            data = self.sock.recv(262144)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            self.ended = self.ended or "rst"
            return True
        if not data:
            self.ended = self.ended or "fin"
            return True
        if hasattr(self, "_in"):
            self._in.write(data)
        else:
            self.buffer += data
        return True

    def _decrypt(self):
        if not self.tls:
            return
        while True:
            try:
                data = self.tls.read(262144)
                if not data:
                    self.ended = self.ended or "fin"
                    return
                self.buffer += data
            except ssl.SSLWantReadError:
                return
            except ssl.SSLZeroReturnError:
                self.ended = self.ended or "fin"
                return
            except ssl.SSLError:
                self.ended = self.ended or "rst"
                return

    def _push(self, data, timeout=None):
        view = memoryview(data)
        end = time.monotonic() + (timeout or TIMEOUT)
        while view and not self.broken:
            try:
                view = view[self.sock.send(view[:262144]):]
                continue
            except (BlockingIOError, InterruptedError):
                pass
            except OSError:
                self.broken = True
                return
            reading = [] if self.ended else [self.sock]
            readable, writable, _ = select.select(reading, [self.sock], [], max(0, end - time.monotonic()))
            if readable:
                self._pull()
                self._decrypt()
            if not readable and not writable:
                raise AssertionError(f"the server took no octet for {timeout or TIMEOUT:g} s, {len(view)} left to send")

    def send(self, data, timeout=None):
        """Sends all of it, reading meanwhile. False when the peer no longer takes it."""
        if self.tls:
            self.tls.write(data) if data else None
            data = self._out.read()
        self._push(data, timeout)
        return not self.broken

    def send_octets(self, data):
        """One octet a send, no pauses; stops early when the peer no longer takes them."""
        if self.tls:
            for i in range(len(data)):
                if not self.send(data[i:i + 1]):
                    return False
            return True
        for i in range(len(data)):
            try:
                self.sock.send(data[i:i + 1])
            except BlockingIOError:
                self._push(data[i:i + 1])
            except OSError:
                self.broken = True
            if self.broken:
                return False
        return True

    def poll(self):
        """Takes what has arrived, without waiting."""
        while not self.ended and self._pull():
            pass
        self._decrypt()

    def fill(self, timeout=None):
        """Waits for more octets or the end. False on timeout."""
        end = time.monotonic() + (TIMEOUT if timeout is None else timeout)
        have = len(self.buffer)
        while not self.ended and len(self.buffer) == have:
            if not self._wait_readable(end):
                return False
            self._pull()
            self._decrypt()
        return True

    def take(self, count, timeout=None):
        """count octets, or None if the stream ends before; AssertionError on timeout."""
        end = time.monotonic() + (TIMEOUT if timeout is None else timeout)
        while len(self.buffer) < count:
            if self.ended:
                return None
            if not self.fill(max(0, end - time.monotonic())):
                raise AssertionError(f"timed out: {len(self.buffer)} of {count} octets there: {bytes(self.buffer[:80])!r}")
        data = bytes(self.buffer[:count])
        del self.buffer[:count]
        return data

    def take_until(self, mark, timeout=None, limit=1 << 20):
        """Octets up to and with mark; None if the stream ends before."""
        end = time.monotonic() + (TIMEOUT if timeout is None else timeout)
        while True:
            at = self.buffer.find(mark)
            if at >= 0:
                return self.take(at + len(mark))
            if self.ended or len(self.buffer) > limit:
                return None
            if not self.fill(max(0, end - time.monotonic())):
                raise AssertionError(f"timed out; {mark!r} not in {bytes(self.buffer[:200])!r}")

    def take_all(self, timeout=None):
        """Everything until the stream ends; AssertionError when it does not."""
        while not self.ended:
            if not self.fill(timeout):
                raise AssertionError(f"the server did not end the stream; it sent {bytes(self.buffer[:200])!r}")
        data = bytes(self.buffer)
        self.buffer.clear()
        return data

    def shutdown_write(self):
        """FIN in our direction; we still read. (TLS: close_notify first.)"""
        if self.tls:
            try:
                self.tls.unwrap()
            except ssl.SSLError:
                pass
            self._push(self._out.read())
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self):
        self.sock.close()

    def abort(self):
        """RST instead of FIN."""
        try:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass
        self.sock.close()
