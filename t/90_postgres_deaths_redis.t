#!/usr/bin/python3
"""t/89_postgres_deaths.t with the rooms of both workers in a real Redis."""
import os
import sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import on_redis                     # noqa: E402

sys.exit(on_redis.run("89_postgres_deaths.t"))
