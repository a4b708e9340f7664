#!/usr/bin/python3
"""The demo as `./build.sh run` starts it, in Chromium over wss: two tabs, and everything that may happen to them."""
import os
import sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import ASAN, tap, vitest     # noqa: E402

if ASAN:
    print("1..0 # SKIP the demo's nginx is not prepared for a module with sanitizers")
    sys.exit(0)
vitest.run("browser.test.ts")
tap.run()
