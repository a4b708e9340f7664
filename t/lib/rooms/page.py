# A page and its rooms, as most tests need them: a WebSocket that has been greeted, joins, and asks who else is there.
from . import jwt, ws

_rooms_made = 0


def new_room(kind="session"):
    """A room that no other case of the file uses: its offsets begin at 1."""
    global _rooms_made
    _rooms_made += 1
    return f"{kind}:{_rooms_made}"


def open_page(server, *rooms, worker=None, user="u1", path="/ws", **options):
    """A WebSocket of the user, `connected` and in these rooms. worker: the pid of the one to be at; options: of ws.connect."""
    options["token"] = jwt.mint(sub=user)
    socket = ws.connect_to_worker(server, worker, path, **options) if worker else ws.connect(server, path, **options)
    socket.expect(type="connected")
    for room in rooms:
        join(socket, room)
    return socket


def join(socket, room, **more):
    """Returns `subscribed`. more: fields of `subscribe`, such as since."""
    socket.send_json(type="subscribe", room=room, **more)
    return socket.expect(type="subscribed", room=room)


def presence(socket, room):
    """The room's users as [(id, connections)], sorted, and how many connections there are in all."""
    socket.send_json(type="presence", room=room)
    got = socket.expect(type="presence", room=room)
    return sorted((user["id"], user["connections"]) for user in got["users"]), got["count"]
