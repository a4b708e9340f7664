# The TAP that prove left in build/tap: which tests ran, by file. A skipped test did not run.
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]
TAP = ROOT / "build/tap"
LINE = re.compile(r"^ok \d+(?: -)? (?P<name>.*?)(?P<skipped>\s# (?i:skip|todo)\b.*)?$", re.MULTILINE)


def passed(pattern="*.t"):
    """[(file below t/, description)] of every test that passed."""
    return [(str(file.relative_to(TAP)).removeprefix("t/"), test["name"])
            for file in sorted(TAP.rglob(pattern))
            for test in LINE.finditer(file.read_text(errors="replace")) if not test["skipped"]]
