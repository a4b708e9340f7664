#!/usr/bin/python3
# Each directive has a test in t/*directives*.t that passed and whose description names it: one in
# which its value changes what a client sees.
import re
import sys

from names import directives
from tap import passed

tested = {word for _, name in passed("*directives*.t") for word in re.findall(r"\w+", name)}
missing = sorted(directives() - tested)
if missing:
    print("no passing test in t/*directives*.t names:", *missing)
else:
    print(f"directives: each of the {len(directives())} has its test")
sys.exit(bool(missing))
