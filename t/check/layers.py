#!/usr/bin/python3
# The layer law: core/ includes the standard library and core/, and zlib or OpenSSL only in a
# .cpp; store/ may also include store/ and the system; only nginx/ includes nginx/ and nginx's headers.
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)
LIBRARY = re.compile(r"^(zlib\.h|openssl/.*\.h)$")
MAY_INCLUDE = {"core": {"core"}, "store": {"core", "store"}, "nginx": {"core", "store", "nginx"}}


def fault(layer, file, bracket, name):
    if bracket == '"':
        if "/" not in name:
            return f'written from src: "{layer}/{name}"'
        target = name.split("/")[0]
        return None if target in MAY_INCLUDE[layer] else f"{layer}/ may not include {target}/"
    if name.startswith("ngx_"):
        return None if layer == "nginx" else "only nginx/ includes nginx's headers"
    if layer != "core" or re.fullmatch(r"[a-z_]+", name):
        return None
    if LIBRARY.match(name):
        return None if file.suffix == ".cpp" else "a library is included by the .cpp that needs it"
    return "core/ includes the standard library only"


faults = []
for path in sorted((ROOT / "src").rglob("*.[ch]pp")):
    layer = path.relative_to(ROOT / "src").parts[0]
    text = path.read_text()
    if layer == "core" and re.search(r"\bngx_", re.sub(r"//.*|\"(\\.|[^\"\\])*\"", "", text)):
        faults.append(f"{path.relative_to(ROOT)}: names ngx_")
    for bracket, name in INCLUDE.findall(text):
        if why := fault(layer, path, bracket, name):
            faults.append(f"{path.relative_to(ROOT)}: {name}: {why}")
print("\n".join(faults) if faults else "layers: as they should be")
sys.exit(bool(faults))
