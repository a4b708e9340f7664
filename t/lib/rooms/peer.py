# Another WebSocket server in nginx's place (ROOMS_PEER=ws, npm's), to find mistakes in the expectations of the
# conformance cases, not in the module. Echoes on every path; /big takes 16 MiB, /small 1 KiB, the others 64 KiB.
import os
import socket
import subprocess

from . import ROOT, wait_until
from . import nginx as _nginx

WS = """
const { WebSocketServer } = require(process.argv[3]);
const limits = { '/big': 16 << 20, '/small': 1024 };
const server = require('http').createServer((q, s) => { s.writeHead(400); s.end(); });
const sockets = {};
server.on('upgrade', (request, socket, head) => {
  const path = request.url.split('?')[0];
  const on = sockets[path] ||= new WebSocketServer({ noServer: true, maxPayload: limits[path] || 65536,
    perMessageDeflate: path.includes('deflate') ? { serverNoContextTakeover: true, clientNoContextTakeover: true, threshold: 0 } : false });
  on.handleUpgrade(request, socket, head, (ws) => {
    ws.on('error', () => {});
    ws.on('message', (data, binary) => ws.send(data, { binary }));
  });
});
server.listen(+process.argv[2], '127.0.0.1');
"""


class Peer:
    def __init__(self, kind):
        self.name, self.port, self.tls_port, self.sock = kind, _nginx.free_port(), None, None
        self.stopped = False
        command = ["node", "-e", WS, "-", str(self.port), os.environ.get("ROOMS_PEER_WS", ROOT + "/t/node_modules/ws")]
        self.process = subprocess.Popen(command, preexec_fn=_nginx._die_with_parent, stderr=subprocess.DEVNULL)
        self.dir = "/nonexistent"
        _nginx._servers.append(self)
        wait_until(self._listens, f"{kind} to listen")

    def _listens(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def is_running(self):
        return self.process.poll() is None

    def workers(self):
        return [self.process.pid]

    def settle(self):
        pass

    def check(self, workers=None):
        assert self.is_running(), "the peer died"

    def _kill(self):
        self.process.kill()

    def stop(self):
        self.stopped = True
        self.process.kill()
        self.process.wait()
        return []
