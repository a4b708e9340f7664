#!/usr/bin/python3
"""rooms-client: what npm gets is whole and small, and its tests pass: with fake sockets, on this nginx with both brokers, and the
hooks on React 18 and 19."""
import os
import subprocess
import sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import tap, vitest     # noqa: E402


def command(*words):
    done = subprocess.run(words, cwd=vitest.CLIENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    for line in done.stdout.splitlines():
        if "bytes of at most" in line:
            tap.diag(line)
    assert done.returncode == 0, done.stdout


tap.add("the types hold, of the tests and the demo too", command, "npx", "tsc", "--noEmit")
tap.add("publint finds nothing", command, "npx", "publint", "--strict")
tap.add("are the types wrong? no, in no way of importing them", command, "bash", "-c",
        'dir=$(mktemp -d) && trap "rm -r $dir" EXIT && npm pack --silent --pack-destination "$dir" && npx attw "$dir"/*.tgz')
tap.add("each part is as small as promised", command, "node", "size.mjs")
vitest.run("client.test.ts", "tabs.test.ts", "react.test.tsx", "server.test.ts", "publisher.test.ts")
vitest.run("react.test.tsx", REACT="18")
tap.run()
