#!/usr/bin/python3
# Each relative link of each page leads to a file of the tree and, behind a #, to a heading of it. links.py [DIR]
import collections
import pathlib
import re
import sys
import urllib.parse

ROOT = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[2]).resolve()
NOT_OURS = {"node_modules", "build", "dist", ".git"}
FENCE = re.compile(r"^ *(```+|~~~+).*?^ *\1[`~]*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(<?([^)>\s]+)>?(?:\s+\"[^\"]*\")?\)")


def text_of(page):
    return FENCE.sub("", page.read_text())


def anchors(page):
    """As GitHub makes them: lower case, punctuation dropped, blanks to dashes; the second of its kind has -1 behind it."""
    seen = collections.Counter()
    for heading in re.findall(r"^#{1,6} +(.*?)[ #]*$", text_of(page), re.MULTILINE):
        shown = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        yield f"{slug}-{seen[slug]}" if seen[slug] else slug
        seen[slug] += 1


def fault(page, link):
    path, _, anchor = urllib.parse.unquote(link).partition("#")
    target = (page.parent / path).resolve() if path else page
    if not target.is_relative_to(ROOT) or not target.exists():
        return "no such file"
    if anchor and target.suffix == ".md" and anchor not in set(anchors(target)):
        return "no such heading"
    return None


pages = [page for page in sorted(ROOT.rglob("*.md")) if not NOT_OURS & set(page.relative_to(ROOT).parts)]
faults, count = [], 0
for page in pages:
    for link in LINK.findall(re.sub(r"`[^`\n]*`", "", text_of(page))):
        if re.match(r"[a-z]+:|//", link):
            continue
        count += 1
        if why := fault(page, link):
            faults.append(f"{page.relative_to(ROOT)}: {link}: {why}")
print("\n".join(faults) if faults else f"links: all {count} of {len(pages)} pages lead somewhere")
sys.exit(bool(faults))
