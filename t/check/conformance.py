#!/usr/bin/python3
# Every id of docs/conformance.md begins the description of a test that ran and passed.
#
#   conformance.py            compares, and fails on ids that are missing on either side
#   conformance.py --update   writes the test files into the page's last column
#   conformance.py --tests    prints the test files that mention ids, for running them alone
import collections
import re
import sys

from tap import ROOT, passed

PAGE = ROOT / "docs/conformance.md"
ROW = re.compile(r"^\| ([A-Z]\d\d) \| (.*?) \|([^|]*)\|$", re.MULTILINE)
IDS = re.compile(r"^(?:\S+: )?((?:[A-Z]\d\d\b[\s,:+&/-]*)+)")  # a description may begin with several


def ran():
    files = collections.defaultdict(set)
    for file, name in passed():
        if begin := IDS.match(name):
            for id_ in re.findall(r"[A-Z]\d\d", begin[1]):
                files[id_].add(file)
    return files


def main():
    page = PAGE.read_text()
    if "--tests" in sys.argv:
        ids = {row[0] for row in ROW.findall(page)}
        print(*(f"t/{file.name}" for file in sorted((ROOT / "t").glob("*.t"))
                if ids & set(re.findall(r"\b[A-Z]\d\d\b", file.read_text()))))
        return 0
    files = ran()
    if "--update" in sys.argv:
        PAGE.write_text(ROW.sub(
            lambda row: f"| {row[1]} | {row[2]} | {', '.join(f'`{f}`' for f in sorted(files[row[1]]))} |", page))
        return 0
    wanted = [row[0] for row in ROW.findall(page)]
    missing = [id_ for id_ in wanted if not files.get(id_)]
    if missing:
        print("docs/conformance.md: no test ran and passed for:", *missing)
    stray = sorted(id_ for id_ in files if id_ not in wanted and id_[0] in "HFGCUXLNDI")
    if stray:
        print("docs/conformance.md does not list, though a test names it:", *stray)
    if not missing and not stray:
        print(f"conformance: all {len(wanted)} ids ran")
    return bool(missing or stray)


sys.exit(main())
