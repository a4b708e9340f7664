# What a test has started beside nginx and not closed yet: ended when the test ends, whatever becomes of it. Each gets
# ports of its own.
import atexit

from .nginx import free_port

_things = []
_ports = set()


def port():
    """A free port that nothing else here was given and has not bound yet."""
    while (found := free_port()) in _ports:
        pass
    _ports.add(found)
    return found


def add(thing):
    """It has close(), which calls remove()."""
    _things.append(thing)


def remove(thing):
    if thing in _things:
        _things.remove(thing)


@atexit.register
def _close_all():
    for thing in list(_things):
        thing.close()
