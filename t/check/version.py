#!/usr/bin/python3
"""VERSION is the version everywhere: of the npm package, its lock file, the documents for programs, which cannot read it, and
the newest part of the changelog."""
import json
import re
import sys

from tap import ROOT


def version_of(document):
    """info.version of OpenAPI and AsyncAPI: here it is the first line of that name, two columns in."""
    found = re.search(r"^  version: (\S+)$", document.read_text(), re.M)
    return found and found[1]


def newest_of(changelog):
    """The version of its first heading; while that is "Unreleased", the one that the sentence below it names."""
    heading, text = re.search(r"^## ([^\n]*)\n(.*?)(?=^## |\Z)", changelog, re.M | re.S).groups()
    found = re.search(r"\bcalls itself (\d\S*)", text) if heading == "Unreleased" else re.match(r"\[?(\d[^] ]*)", heading)
    return found and found[1]


def main():
    version = (ROOT / "VERSION").read_text().strip()
    package = json.loads((ROOT / "client/package.json").read_text())
    lock = json.loads((ROOT / "client/package-lock.json").read_text())
    wrong = [] if re.fullmatch(r"\d+\.\d+\.\d+", version) else [f"VERSION is {version!r}, and should be as 1.2.3"]
    for name, got in (("client/package.json", package["version"]), ("client/package-lock.json", lock["version"]),
                      ("client/package-lock.json, packages", lock["packages"][""]["version"]),
                      ("CHANGELOG.md", newest_of((ROOT / "CHANGELOG.md").read_text())),
                      *((f"docs/{name}.yaml", version_of(ROOT / f"docs/{name}.yaml")) for name in ("openapi", "asyncapi"))):
        if got != version:
            wrong.append(f"{name} has version {got}, and VERSION {version}")
    print("\n".join(wrong) or f"version: {version} everywhere")
    return bool(wrong)


sys.exit(main())
