#!/usr/bin/python3
# Every id of the tables in docs/conformance.md and docs/security.md begins the description of a test that ran and passed.
#
#   conformance.py            compares, and fails on ids that are missing on either side
#   conformance.py --update   writes the test files into the pages' last column
#   conformance.py --tests    prints the test files that mention ids, for running them alone
import collections
import re
import sys

from tap import ROOT, passed

PAGES = [ROOT / "docs/conformance.md", ROOT / "docs/security.md"]
ID = r"[A-Z]\d{1,2}(?![A-Za-z0-9])"
ROW = re.compile(rf"^\| ({ID}) \| (.*?) \|([^|]*)\|$", re.MULTILINE)
# A description may begin with several, and unit tests have the name of their program before.
BEGIN = re.compile(rf"^(?:(?!{ID})\S+: )?((?:{ID}[\s,:+&/_-]*)+)")


def ran():
    files = collections.defaultdict(set)
    for file, name in passed():
        if begin := BEGIN.match(name):
            for id_ in re.findall(ID, begin[1]):
                files[id_].add(file)
    return files


def update(page, files):
    page.write_text(ROW.sub(
        lambda row: f"| {row[1]} | {row[2]} | {', '.join(f'`{f}`' for f in sorted(files[row[1]]))} |", page.read_text()))


def tests_that_mention(wanted):
    unit = any(re.search(rf"(?<!\w)({'|'.join(wanted)})_", file.read_text()) for file in (ROOT / "t/unit").glob("*_test.cpp"))
    return ["t/00_unit.t"] * unit + [f"t/{file.name}" for file in sorted((ROOT / "t").glob("*.t"))
                                     if set(wanted) & set(re.findall(rf"\b{ID}", file.read_text()))]


def main():
    ids = {page: [row[0] for row in ROW.findall(page.read_text())] for page in PAGES}
    wanted = [id_ for page in PAGES for id_ in ids[page]]
    if "--tests" in sys.argv:
        print(*tests_that_mention(wanted))
        return 0
    files = ran()
    if "--update" in sys.argv:
        for page in PAGES:
            update(page, files)
        return 0
    faults = []
    for page in PAGES:
        if missing := [id_ for id_ in ids[page] if not files.get(id_)]:
            faults.append(f"{page.relative_to(ROOT)}: no test ran and passed for: {' '.join(missing)}")
    if twice := [id_ for id_, rows in collections.Counter(wanted).items() if rows > 1]:
        faults.append(f"more than one row has the id: {' '.join(twice)}")
    letters = {id_[0] for id_ in wanted}
    if stray := sorted(id_ for id_ in files if id_ not in wanted and id_[0] in letters):
        faults.append(f"no page lists, though a test names it: {' '.join(stray)}")
    print("\n".join(faults) if faults else f"conformance: all {len(wanted)} ids ran")
    return bool(faults)


sys.exit(main())
