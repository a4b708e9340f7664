#!/usr/bin/python3
"""A page from before this module: what it does not know must not hurt it, whatever happens to nginx."""
import os
import signal
import sys
import threading
import time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import SCALE, http, jwt, tap, wait_until, ws   # noqa: E402
from rooms.nginx import Nginx                             # noqa: E402

SECOND = 0.1 * SCALE        # of the page's clock

server = Nginx(locations="""
    location = /ws      { rooms; rooms_jwt_key HS256 @DIR@/secret; rooms_allow session:*; rooms_drain 400ms; }
    location = /publish { rooms_publish; }
""", files={"secret": jwt.SECRET})


class OldPage(threading.Thread):
    """?token=, no subprotocol. Subscribes twice on open, pings every 30 s, drops what has not its sessionId, never
    returns after 1000, 4001, 4002; else waits 1, 2, 4, 8, 16 s and gives up after five tries."""

    def __init__(self, session, token):
        super().__init__(daemon=True)
        self.session, self.token = session, token
        self.seen = []          # what the page shows: events with its sessionId
        self.other = []         # all other messages
        self.codes = []         # how its sockets ended
        self.waits = []         # seconds of its clock before each try
        self.worker = None      # who serves it; None: nobody
        self.over = None        # why it will never come back
        self.leaving = False
        self.error = None
        self.start()

    def run(self):
        tries = 0
        try:
            while not self.leaving:
                opened, code = self.live()
                if opened:
                    tries = 0
                if self.leaving:
                    return
                if code in (1000, 4001, 4002):
                    self.over = f"closed with {code}"
                    return
                if tries == 5:
                    self.over = "gave up"
                    return
                self.waits.append(2 ** tries)
                time.sleep(2 ** tries * SECOND)
                tries += 1
        except Exception as error:      # for check()
            self.error = error

    def live(self):
        """One socket, from its birth to its end: (was it opened, its close code)."""
        try:
            socket = ws.connect(server, f"/ws?token={self.token}")
        except (OSError, ws.HandshakeRefused):
            return False, 1006
        with socket:
            for _ in range(2):
                socket.send_json(type="subscribe", room=f"session:{self.session}")
            self.worker = socket.worker
            ping = time.monotonic() + 30 * SECOND
            while not self.leaving:
                if time.monotonic() >= ping:
                    socket.send_json(type="ping")
                    ping += 30 * SECOND
                if not socket.wire.buffer and not socket.wire.fill(0.02) and not socket.wire.ended:
                    continue
                try:
                    message = socket.recv_json()
                except ws.Closed as end:
                    socket.send_close(end.code if end.code != 1006 else 1000)
                    self.worker = None
                    self.codes.append(end.code)
                    return True, end.code
                shown = message.get("sessionId") == self.session
                (self.seen if shown else self.other).append(message)
            socket.send_close(1000)
        return True, 1000

    def kinds(self):
        return [message["type"] for message in self.other]

    def leave(self):
        self.leaving = True
        self.join(5 * SCALE)

    def check(self):
        assert self.error is None, f"the page broke: {self.error!r}"
        tap.is_(self.over, None, "the page has gone for ever")
        tap.ok(1000 not in self.codes, "the server closed with 1000")


def publish(session, n):
    return http.publish(server, {"room": f"session:{session}", "type": "session:update",
                                 "data": {"state": "building", "progress": n}})


def shows(page, n):
    """The page shows the publication n, once, and `subscribed` came to each of its two subscribes."""
    wait_until(lambda: any(event["progress"] == n for event in page.seen), f"the page to show {n}")
    tap.is_([event["progress"] for event in page.seen if event["progress"] == n], [n], "shown")


def joined(page, times):
    """It is in its room for the times-th time: both of its subscribes have been answered."""
    wait_until(lambda: page.error or page.over or page.kinds().count("subscribed") >= 2 * times,
               f"the page to be there for the {times}. time", 10 * SCALE)
    page.check()
    tap.is_(page.kinds().count("subscribed"), 2 * times, "subscribed, twice for each socket")
    tap.is_(page.kinds().count("error"), 0, "errors")


@tap.case("the second subscribe is answered with subscribed and doubles nothing; it needs no subprotocol, since, ref or auth")
def _():
    page = OldPage("1", jwt.mint(sub="u1"))
    joined(page, 1)
    for n in range(3):
        tap.is_(publish("1", n)["subscribers"], 1, "subscribers")
        shows(page, n)
    publish("2", 99)
    tap.is_([event["progress"] for event in page.seen], [0, 1, 2], "all that it shows")
    for event in page.seen:
        tap.is_((event["type"], event["state"], event["sessionId"]), ("session:update", "building", "1"))
        tap.ok(isinstance(event["timestamp"], int), "timestamp")
    page.leave()
    page.check()


@tap.case("its pings are answered for as long as it stays")
def _():
    page = OldPage("1", jwt.mint(sub="u1"))
    joined(page, 1)
    wait_until(lambda: page.kinds().count("pong") >= 2, "two pongs", 10 * SCALE)
    tap.is_(page.codes, [], "closes")
    page.leave()


@tap.case("it lives through a reload: it ignores `reconnect`, sees 1012 and comes back")
def _():
    pages = [OldPage("1", jwt.mint(sub=f"u{n}")) for n in range(4)]
    for page in pages:
        joined(page, 1)
    server.reload(wait_old=True)
    for page in pages:
        joined(page, 2)
        tap.is_(page.codes, [1012], "close codes")
        tap.is_(page.kinds().count("reconnect"), 1, "reconnect")
        tap.is_(page.waits, [1], "seconds waited")
    publish("1", 7)
    for page in pages:
        shows(page, 7)
        page.leave()


@tap.case("it lives through the SIGKILL of its worker, and only its worker's pages notice")
def _():
    pages = [OldPage("1", jwt.mint(sub=f"u{n}")) for n in range(8)]
    for page in pages:
        joined(page, 1)
    victim = pages[0].worker
    hit = [page for page in pages if page.worker == victim]
    server.kill_worker(victim)
    for page in hit:
        joined(page, 2)
        tap.is_(page.codes, [1006], "close codes")
    publish("1", 8)
    for page in pages:
        if page not in hit:
            tap.is_(page.codes, [], "close codes of the other worker's pages")
        shows(page, 8)
        page.leave()


@tap.case("it lives through a restart of nginx, gone for some of its tries")
def _():
    page = OldPage("1", jwt.mint(sub="u1"))
    joined(page, 1)
    server.changed_workers = True
    server.send_signal(signal.SIGQUIT)
    tap.is_(server.process.wait(10 * SCALE), 0, "exit code of nginx")
    server.output.close()
    wait_until(lambda: len(page.waits) >= 2, "the second try")
    server.start()
    joined(page, 2)
    tap.is_(page.codes, [1012], "close codes")
    tap.is_(page.waits, [1, 2, 4, 8, 16][:len(page.waits)], "seconds waited")
    publish("1", 9)
    shows(page, 9)
    page.leave()


@tap.case("a restart with SIGTERM tells nobody: 1006, and it comes back")
def _():
    page = OldPage("1", jwt.mint(sub="u1"))
    joined(page, 1)
    server.restart()
    joined(page, 2)
    tap.is_(page.codes, [1006], "close codes")
    tap.is_(page.kinds().count("reconnect"), 0, "reconnect")
    publish("1", 10)
    shows(page, 10)
    page.leave()


@tap.case("without a token it gets 4001, with a bad one 4002, and stops for ever")
def _():
    for token, code in (("", 4001), (jwt.mint(sub="u1", exp=1), 4002), ("junk", 4002)):
        page = OldPage("1", token)
        wait_until(lambda: page.over, "the page to stop")
        tap.is_(page.over, f"closed with {code}", f"with the token {token[:8]!r}")
        tap.is_(page.waits, [], "tries")


@tap.case("when its token ends it sees 4201, and its return with the same one ends with 4002")
def _():
    page = OldPage("1", jwt.mint(sub="u1", exp=int(time.time()) + 2))
    joined(page, 1)
    wait_until(lambda: page.over, "the page to stop", 8 * SCALE)
    tap.is_(page.codes, [4201, 4002], "close codes")
    tap.is_(page.kinds().count("token:expiring"), 1, "token:expiring, which it drops")


tap.run()
