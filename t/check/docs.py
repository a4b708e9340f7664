#!/usr/bin/python3
# docs/ and the source name the same things. From the source: directives and variables (tables in
# src/nginx/*.cpp), error codes (command.cpp, and what src/nginx answers as {"error":{"code":…}}), close
# codes (close_code.hpp), metrics. In docs/: each must stand there in backticks, and conversely
#   - every `rooms…` word in backticks in docs/*.md or README.md must be a name that the source or the migrations have;
#   - every code in the first column of a table under a heading "… error codes" or "… close codes" too;
#   - every fault that README.md's table names must be one of docs/reliability.md.
import re
import sys

from names import ROOT, close_codes, directives, error_codes, http_error_codes, metrics, sql_names, variables

PAGES = sorted((ROOT / "docs").glob("*.md")) + [ROOT / "README.md"]
# Words that begin like ours and are no directive, variable or metric.
OTHER = {"rooms", "rooms_claim"}

text = "\n".join(page.read_text() for page in PAGES if page.exists())
text_without_blocks = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
quoted = re.findall(r"`([^`\n]+)`", text_without_blocks)
quoted_words = {word for span in quoted for word in re.findall(r"\$?[A-Za-z0-9_]+", span)}

faults = []


def compare(what, source, documented):
    if missing := sorted(source - documented):
        faults.append(f"{what} in the source, not in docs/: {', '.join(missing)}")


def table_codes(heading):
    codes = set()
    for section in re.split(r"^#+ ", text, flags=re.MULTILINE)[1:]:
        title, _, body = section.partition("\n")
        if re.search(heading, title, re.IGNORECASE):
            for row in re.findall(r"^\|([^|]*)\|", body, re.MULTILINE):
                codes |= set(re.findall(r"\b(?:[a-z]+(?:_[a-z]+)*|\d{4})\b", row.replace("–", "-")))
    return codes - {"code", "codes"}


compare("directives", directives(), quoted_words)
compare("variables", {f"${name}NAME" if name.endswith("_") else f"${name}" for name in variables()}, quoted_words)
compare("error codes", error_codes() | http_error_codes(), quoted_words)
compare("close codes", close_codes(), set(re.findall(r"\b\d{4}\b", text)))
compare("metrics", metrics(), quoted_words)

known = directives() | variables() | metrics() | sql_names() | OTHER
for word in sorted(quoted_words):
    name = word.lstrip("$")
    if re.match(r"rooms_[a-z]", name) and name not in known and not name.startswith("rooms_claim_"):
        faults.append(f"in docs/, not in the source: {word}")
if unknown := table_codes("error codes") - error_codes() - http_error_codes():
    faults.append(f"error codes in docs/, not in the source: {', '.join(sorted(unknown))}")
if unknown := {c for c in table_codes("close codes") if c.isdigit()} - close_codes():
    faults.append(f"close codes in docs/, not in the source: {', '.join(sorted(unknown))}")

known = set(re.findall(r"^\| (F\d+) \|", (ROOT / "docs/reliability.md").read_text(), re.MULTILINE))
rows = re.findall(r"^\| (F\d+(?:, F\d+)*) \|", (ROOT / "README.md").read_text(), re.MULTILINE)
if not rows:
    faults.append("README.md names no fault of docs/reliability.md")
if unknown := {fault for row in rows for fault in row.split(", ")} - known:
    faults.append(f"faults in README.md, not in docs/reliability.md: {', '.join(sorted(unknown))}")

print("\n".join(faults) if faults else "docs: the same names as the source")
sys.exit(bool(faults))
