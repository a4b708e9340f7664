#!/usr/bin/python3
"""t/86_postgres_faults.t with the rooms of both workers in a real Redis."""
import os
import sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import on_redis                     # noqa: E402

sys.exit(on_redis.run("86_postgres_faults.t"))
