# What the kernel says of a process, by its pid.
import os


def children(pid):
    # The kernel may leave out a child that lives when another ends in this moment (proc(5)): what is said twice counts.
    said = None
    while True:
        try:
            with open(f"/proc/{pid}/task/{pid}/children") as file:
                before, said = said, [int(word) for word in file.read().split()]
        except OSError:
            return []
        if said == before:
            return said


def title(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().replace(b"\0", b" ").decode("latin-1")
    except OSError:
        return ""


def alive(pid):
    """True for a process that still runs; a zombie has ended."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def open_files(pid):
    """What its descriptors are: paths, and `socket:[INODE]` and the like. Those that are closed meanwhile are left out."""
    found = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
        except OSError:
            pass
    return found
