# A network of a test's own, a namespace in which a page's addresses are this host's: programs run there with `through` (or
# `command`, in a shell) in front of them. Unix sockets lead in and out.
import os
import subprocess

from . import started, tap


class Net:
    """addresses: those that its one interface has, as 10.0.0.5/24."""

    def __init__(self, *addresses):
        own = [] if os.geteuid() == 0 else ["--map-current-user", "--keep-caps"]
        setup = "".join(f"ip addr add {address} dev lo && " for address in addresses)
        self.process = subprocess.Popen(["unshare", "-n", *own, "sh", "-c", f"ip link set lo up && {setup} echo up && exec cat"],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.add(self)
        if self.process.stdout.readline() != "up\n":
            self.close()
            tap.skip("no network namespace here")
        self.through = ["nsenter", "-t", str(self.process.pid), "-n", *(["-U", "--preserve-credentials"] if own else [])]
        self.command = " ".join(self.through)

    def close(self):
        """cat ends with its input, and the namespace with the last process in it."""
        self.process.communicate()
        started.remove(self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
