# A test file once more, with all rooms shared through a real Redis: the brokers promise the same.
import os
import runpy
import sys

from . import ROOT


def run(name):
    from .redis import Redis
    with Redis(appendfsync="everysec") as redis:
        os.environ["ROOMS_BROKER"] = redis.unix_url
        for module in [module for module in sys.modules if module == "rooms" or module.startswith("rooms.")]:
            del sys.modules[module]     # what they know of the environment is old
        try:
            runpy.run_path(os.path.join(ROOT, "t", name), run_name="__main__")
        except SystemExit as end:
            return end.code
