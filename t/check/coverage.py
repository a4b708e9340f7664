#!/usr/bin/python3
# coverage.py DIR PERCENT: line coverage of src/core by the programs of DIR (built with --coverage),
# file by file. Fails below PERCENT. A line counts once, however many programs compiled it.
import collections
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
directory, floor = (ROOT / sys.argv[1]).resolve(), float(sys.argv[2])

counts = collections.defaultdict(lambda: collections.defaultdict(int))
notes = sorted(directory.rglob("*.gcno"))
for start in range(0, len(notes), 16):
    out = subprocess.run(["gcov", "--json-format", "--stdout", *map(str, notes[start:start + 16])],
                         cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout
    for document in out.splitlines():
        for file in json.loads(document)["files"]:
            if file["file"].startswith("src/core/"):
                for line in file["lines"]:
                    counts[file["file"]][line["line_number"]] += line["count"]

total = covered = 0
for name, lines in sorted(counts.items()):
    hit = sum(count > 0 for count in lines.values())
    total, covered = total + len(lines), covered + hit
    missed = [str(number) for number, count in sorted(lines.items()) if not count]
    print(f"{100 * hit / len(lines):6.1f} %  {name}  {'not: ' + ' '.join(missed[:20]) if missed else ''}".rstrip()
          + (" …" if len(missed) > 20 else ""))
percent = 100 * covered / total if total else 0
print(f"{percent:6.1f} %  src/core, {covered} of {total} lines")
sys.exit(percent < floor)
