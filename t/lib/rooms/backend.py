# A backend that publishes numbered events over HTTP, and does so again while it is told that nobody knows.
from . import SCALE, http, wait_until


def event(room, n=1, **more):
    """A publication, as /publish takes it."""
    return dict({"room": room, "type": "x", "data": {"n": n}}, **more)


def publish(server, room, n=1, expect=200, **more):
    """The JSON answer; expect=None: the Response."""
    return http.publish(server, event(room, n, **more), expect=expect)


def publish_surely(server, room, n):
    """As a good backend does it: a 503 is answered with the same id again."""
    def taken():
        response = publish(server, room, n, expect=None, id=f"{room}.{n}")
        assert response.status in (200, 503), f"{response!r}"
        return response.json if response.status == 200 else None
    return wait_until(taken, f"{n} to be taken", 10 * SCALE)
