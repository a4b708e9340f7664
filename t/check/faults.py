#!/usr/bin/python3
"""Each fault of docs/reliability.md names cases that ran and passed: `NN: "words of the description"`."""
import re
import sys

from tap import ROOT, passed

PAGE = ROOT / "docs/reliability.md"
TABLE = re.compile(r"^## The faults$(.*?)^## ", re.MULTILINE | re.DOTALL)
ROW = re.compile(r"^\| (F\d+) \|.*\| ([^|]*) \|$", re.MULTILINE)
CASE = re.compile(r'(\d\d): "([^"]*)"')


def main():
    ran = passed()
    wrong, numbers = [], []
    for number, cell in ROW.findall(TABLE.search(PAGE.read_text())[1]):
        numbers.append(number)
        cases = CASE.findall(cell)
        if not cases:
            wrong.append(f"{number} names no case")
        wrong += [f'{number}: no case of t/{file}_*.t with "{words}" ran and passed' for file, words in cases
                  if not any(name.startswith(f"{file}_") and words in description for name, description in ran)]
    wrong += [f"F{n} is missing" for n in range(1, 43) if f"F{n}" not in numbers]
    if wrong:
        print("docs/reliability.md:", *wrong, sep="\n  ")
    else:
        print(f"faults: all {len(numbers)} happened")
    return bool(wrong)


sys.exit(main())
