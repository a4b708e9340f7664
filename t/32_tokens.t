#!/usr/bin/python3
"""Bad tokens at the door: whatever is wrong with one, its client is told the same, and the log why. Keys in files that
change. What an answer to a handshake that fails says besides."""
import base64
import json
import os
import re
import socket
import sys
import time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from rooms import http, jwt, tap, ws                      # noqa: E402
from rooms.nginx import Nginx                             # noqa: E402

KID = b"the secret of the key that has a kid, which is long enough"
NEW_KID = b"the secret of the key that comes after it, long enough too"


def jwks(**keys):
    return json.dumps({"keys": [{"kty": "oct", "alg": "HS256", "kid": kid, "k": jwt.b64(secret)}
                                for kid, secret in keys.items()]})


server = Nginx(http="""
    large_client_header_buffers 4 16k;
    rooms_jwt_key HS256 @DIR@/secret;
    rooms_jwt_key RS256 @DIR@/RS256.pub kid=rsa;
    rooms_jwt_key ES256 @DIR@/ES256.pub;
    rooms_allow session:*;
""", locations="""
    location = /ws      { rooms; }
    location = /http    { rooms; rooms_auth_failure http; }
    location = /strict  { rooms; rooms_jwt_issuer us; rooms_jwt_audience here; rooms_jwt_max_age 1h; rooms_jwt_leeway 300s; }
    location = /jwks    { rooms; rooms_jwt_jwks @DIR@/jwks; }
    location = /one     { rooms; rooms_auth_failure http; rooms_max_connections 1; }
    location = /list    { rooms; rooms_origin https://a.example; }
""", files={"secret": jwt.SECRET, "jwks": jwks(k1=KID)}, start=False)
rsa, ec = (jwt.Key(server.dir, alg) for alg in ("RS256", "ES256"))
server.start()

NOW = int(time.time())
GOOD = {"sub": "u1", "exp": NOW + 3600}


def bearer(token):
    # Not as subprotocol: that takes no token of other bytes.
    return {"headers": [("Authorization", "Bearer " + token)]}


def told(token, path="/ws"):
    """What a client sees of it: how a socket ends, and an answer of HTTP without its date."""
    with ws.connect(server, path, **bearer(token)) as page:
        closed = page.expect_closed()
    try:
        ws.connect(server, "/http", **bearer(token)).drop()
        tap.fail("it opened a socket")
    except ws.HandshakeRefused as refusal:
        answer = refusal.response
    headers = [(name, value) for name, value in answer.headers if name not in ("Date", "X-Worker")]
    return closed.code, closed.reason, answer.status, headers, answer.body


def refused(token, why):
    """As every other, and the log says why at level info."""
    since = len(server.log())
    tap.is_(told(token), told(WRONG_MAC), "what the client is told")
    server.wait_log(rf"\[info\].*rooms: token refused: (?:{why})", since=since)


def sealed(header, payload=None, alg="HS256", key=jwt.SECRET):
    return jwt.token_of(header, GOOD if payload is None else payload, alg, key)


def changed(token, segment, change):
    parts = token.split(".")
    parts[segment] = change(parts[segment])
    return ".".join(parts)


def other_last_bits(text):
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return text[:-1] + letters[letters.index(text[-1]) + 1]


def nested(depth):
    return b'{"exp":%d,"x":%s1%s}' % (GOOD["exp"], b"[" * depth, b"]" * depth)


HS, GOOD_TOKEN = {"alg": "HS256", "typ": "JWT"}, jwt.mint(GOOD)
WRONG_MAC = jwt.mint(GOOD, key=b"another secret, which nobody here has configured")
BAD = [
    ("S10", "an algorithm without a key", sealed({"alg": "HS512"}, alg="HS512"), "no key for HS512"),
    ("S10", "RS256 by name, its MAC by the HS256 key", sealed({"alg": "RS256"}), "the signature does not match"),
    ("S11", "HS256 with the RSA key's public PEM as secret", sealed(HS, key=rsa.public_pem), "the signature does not match"),
    ("S11", "HS256 with the EC key's public PEM as secret", sealed(HS, key=ec.public_pem), "the signature does not match"),
    ("S12", "alg none without a signature", sealed({"alg": "none"}, alg="none"), "not three segments"),
    ("S12", "alg nOnE with a signature", sealed({"alg": "nOnE"}), 'unsigned: "alg" is none'),
    ("S13", "alg in lower case", sealed({"alg": "hs256"}), '"alg" is not supported'),
    ("S14", "crit", sealed({**HS, "crit": ["b64"], "b64": False}), '"crit" is not supported'),
    ("S15", "padding behind the signature", GOOD_TOKEN + "=", "the signature is not base64url"),
    ("S15", "a fourth segment", GOOD_TOKEN + ".x", "the signature is not base64url"),
    ("S15", "last bits that mean nothing and are not zero", changed(GOOD_TOKEN, 2, other_last_bits),
     "the signature is not base64url"),
    ("S15", "a letter of the other alphabet", changed(GOOD_TOKEN, 0, lambda text: text + "+"), "the header is not base64url"),
    ("S16", "more than 8 KiB", jwt.mint(GOOD, x="x" * 6200), "longer than 8192 bytes"),
    ("S17", "a payload that is an array", sealed(HS, b"[]"), "the payload is not a JSON object"),
    ("S17", "a claim twice", sealed(HS, b'{"exp":%d,"sub":"a","sub":"b"}' % GOOD["exp"]), ".*twice|.*without duplicates"),
    ("S17", "a header member twice", sealed(b'{"alg":"none","alg":"HS256"}'),
     "the header is not a JSON object without duplicates"),
    ("S17", "a payload that is nine deep", sealed(HS, nested(8)), "the payload is not JSON, or too deep"),
    ("S18", "an ES256 signature in DER", jwt.mint(GOOD, alg="ES256", key=ec)[:-86] +
     jwt.b64(b"\x30\x44\x02\x20" + b"\x01" * 32 + b"\x02\x20" + b"\x01" * 32), "the signature does not match"),
    ("S20", "no exp", jwt.mint(sub="u1", exp=None), 'no claim "exp"'),
    ("S20", "exp as a string", jwt.mint(sub="u1", exp=str(GOOD["exp"])), '"exp" is not a number'),
    ("S20", "exp in the past", jwt.mint(sub="u1", exp=NOW - 1), "expired"),
    ("S20 R3", "exp in milliseconds", jwt.mint(sub="u1", exp=GOOD["exp"] * 1000), ".*milliseconds.*rooms_jwt_exp_unit"),
    ("S22", "nbf in the future", jwt.mint(GOOD, nbf=NOW + 1000), '"nbf" is in the future'),
    ("S22", "iat in the future", jwt.mint(GOOD, iat=NOW + 1000), '"iat" is in the future'),
    ("S23", "typ that is no string", sealed({"alg": "HS256", "typ": 1}), '"typ" is not a string'),
    ("S24", "kid with a path in it", sealed({"alg": "RS256", "kid": "../../../dev/null"}), 'no RS256 key has its "kid"'),
    ("S24", "kid with a quote and SQL", sealed({"alg": "RS256", "kid": "rsa' or '1'='1"}), 'no RS256 key has its "kid"'),
    ("S24", "kid of more than 128 bytes", sealed({**HS, "kid": "k" * 129}), '"kid" is not 1 to 128 printable characters'),
    ("S27", "a MAC of which only the last bits are wrong",
     changed(GOOD_TOKEN, 2, lambda text: text[:-2] + ("A" if text[-2] != "A" else "B") + text[-1]),
     "the signature does not match"),
]
for ids, what, token, why in BAD:
    tap.add(f"{ids}: {what} is refused, and told as any other", refused, token, why)


@tap.case("S28: eight causes have one answer, byte for byte, and the log eight reasons that show nothing of the token")
def _():
    since = len(server.log())
    answers = {json.dumps(told(token), default=repr) for _, _, token, _ in BAD[::4]}
    tap.is_(len(answers), 1, "answers")
    code, reason, status, headers, body = told(WRONG_MAC)
    tap.is_((code, status), (4002, 403), "codes")
    for word in ("signature", "exp", "alg", "kid", "claim", "expired"):
        tap.unlike(f"{reason} {headers} {body}", rf"(?i)\b{word}\b", "what the client is told")
    reasons = set(re.findall(r"token refused: ([^,]*),", server.log()[since:]))
    tap.ok(len(reasons) >= 7, f"reasons in the log: {reasons}")
    for _, _, token, _ in BAD:
        tap.ok(token[-20:] not in server.log(), "nothing of it in the log")


@tap.case("S22 S23: iss and aud are asked for, exactly; the leeway is what it says")
def _():
    def ends(**claims):
        token = jwt.mint({**GOOD, "iss": "us", "aud": ["x", "here"], "iat": NOW, **claims})
        with ws.connect(server, "/strict", **bearer(token)) as page:
            try:
                return page.recv_json()["type"]
            except ws.Closed as closed:
                return closed.code
    tap.is_(ends(), "connected", "as it should be")
    for claims in ({"iss": "US"}, {"iss": "us "}, {"iss": None}, {"iss": ["us"]}, {"aud": "her"}, {"aud": "here there"},
                   {"aud": []}, {"aud": None}):
        tap.is_(ends(**claims), 4002, str(claims))
    tap.is_([ends(nbf=NOW + 290), ends(nbf=NOW + 400), ends(exp=NOW - 200), ends(exp=NOW - 301)],
            ["connected", 4002, "connected", 4002], "what rooms_jwt_leeway allows, and no more")


@tap.case("S25 S62: a key or a URL in a token's header is never used, nor opened")
def _():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/jwks.json"
        forged = b"the forger's own secret, which is long enough to be one"
        for more in ({"jku": url}, {"x5u": url}, {"x5c": [base64.b64encode(b"0" * 99).decode()]},
                     {"jwk": {"kty": "oct", "alg": "HS256", "k": jwt.b64(forged)}}, {"jku": url, "kid": "k1", "alg": "RS256"}):
            tap.is_(told(sealed({**HS, **more}, key=forged))[0], 4002, f"forged, with {sorted(more)}")
            if "alg" not in more:
                with ws.connect(server, "/ws", **bearer(sealed({**HS, **more}))) as page:
                    page.expect(type="connected", userId="u1")
        listener.setblocking(False)
        try:
            listener.accept()
            tap.fail("somebody came to the URL")
        except BlockingIOError:
            pass


@tap.case("S26 S29: a JWKS file that changes counts after a reload, a broken one changes nothing")
def _():
    def works(kid, secret):
        with ws.connect(server, "/jwks", **bearer(jwt.mint(GOOD, key=secret, header={"kid": kid}))) as page:
            try:
                return page.recv_json()["type"] == "connected"
            except ws.Closed:
                return False
    tap.is_((works("k1", KID), works("k2", NEW_KID)), (True, False), "the first file")
    server.write("jwks", jwks(k1=KID, k2=NEW_KID))
    tap.is_((works("k1", KID), works("k2", NEW_KID)), (True, False), "before the reload")
    server.reload(wait_old=True)
    tap.is_((works("k1", KID), works("k2", NEW_KID)), (True, True), "two side by side")
    server.write("jwks", jwks(k2=NEW_KID))
    server.reload(wait_old=True)
    tap.is_((works("k1", KID), works("k2", NEW_KID)), (False, True), "the old one taken out")
    server.allow(r'\[emerg\].*"rooms_jwt_jwks"')
    for broken in ('{"keys":[{"kty":"oct","alg":"HS256","kid":"k3","k":"c2hvcnQ"}]}', jwks(k3=KID)[:-9], '{"keys":[]}', ""):
        since, workers = len(server.log()), server.workers()
        server.write("jwks", broken)
        server.send_signal(1)
        server.wait_log(r'\[emerg\].*"rooms_jwt_jwks".*/jwks"', since=since)
        tap.is_(server.workers(), workers, "workers")
        tap.is_((works("k2", NEW_KID), works("k3", KID)), (True, False), "after a broken one")
    server.write("jwks", jwks(k2=NEW_KID))


@tap.case("S67: an answer to a handshake that fails is never kept by a cache, and its page tells nobody its URL")
def _():
    with ws.connect(server, "/one", token=GOOD_TOKEN) as page:
        page.expect(type="connected")
        for status, path, options in ((400, "/ws", {"key": "short"}), (405, "/ws", {"method": "POST"}),
                                      (426, "/ws", {"version": "8"}), (403, "/list", {"origin": "https://evil.example"}),
                                      (401, "/http", {}), (403, "/http", bearer(WRONG_MAC)), (429, "/one", bearer(GOOD_TOKEN))):
            octets = ws.handshake_octets(path + "?token=", **{"key": ws.new_key(), **options})
            answer = http.raw(server, octets)
            tap.is_(answer.status, status, f"status of {options}")
            tap.is_((answer.get("Cache-Control"), answer.get("Referrer-Policy")), ("no-store", "no-referrer"), f"{status}")
        page.close()


tap.run()
