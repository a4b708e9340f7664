#!/usr/bin/python3
"""51_old_page.t on the Redis broker."""
import os
import sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import on_redis      # noqa: E402

sys.exit(on_redis.run("51_old_page.t"))
