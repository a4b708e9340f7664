# Mints tokens for tests: HS by hmac, RS/PS/ES/EdDSA with the openssl program. Signs whatever it is given, right or
# wrong; sign_input() and token_of() let a test build tokens that no honest minter would.
import base64
import hashlib
import hmac
import json as _json
import os
import subprocess
import tempfile
import time

SECRET = b"a secret of the tests, thirty-two octets at least"


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _openssl(*arguments, stdin=None):
    done = subprocess.run(["openssl", *arguments], input=stdin, capture_output=True)
    assert done.returncode == 0, f"openssl {' '.join(arguments)}: {done.stderr.decode()}"
    return done.stdout


class Key:
    """A private key file and its public PEM. kind: "RS256"-like algorithm name, which picks type and curve."""

    def __init__(self, directory, alg, name=None, bits=2048):
        base = os.path.join(directory, name or alg)
        self.alg, self.private, self.public = alg, base + ".key", base + ".pub"
        if alg[:2] in ("RS", "PS"):
            _openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", f"rsa_keygen_bits:{bits}", "-out", self.private)
        elif alg[:2] == "ES":
            curve = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}[alg]
            _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", f"ec_paramgen_curve:{curve}", "-out", self.private)
        else:
            _openssl("genpkey", "-algorithm", "ed25519", "-out", self.private)
        _openssl("pkey", "-in", self.private, "-pubout", "-out", self.public)

    @property
    def public_pem(self):
        with open(self.public, "rb") as file:
            return file.read()


def sign_input(data, alg, key=SECRET):
    """The signature of these octets. key: bytes for HS*, a Key for the others."""
    if alg == "none":
        return b""
    digest = "sha" + alg[2:]
    if alg[:2] == "HS":
        return hmac.new(key, data, getattr(hashlib, digest)).digest()
    if alg[:2] == "RS":
        return _openssl("dgst", f"-{digest}", "-sign", key.private, stdin=data)
    if alg[:2] == "PS":
        return _openssl("dgst", f"-{digest}", "-sign", key.private, "-sigopt", "rsa_padding_mode:pss",
                        "-sigopt", "rsa_pss_saltlen:-1", stdin=data)
    if alg[:2] == "ES":
        size = {"ES256": 32, "ES384": 48, "ES512": 66}[alg]
        return der_to_raw(_openssl("dgst", f"-{digest}", "-sign", key.private, stdin=data), size)
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        return _openssl("pkeyutl", "-sign", "-rawin", "-inkey", key.private, "-in", file.name)


def der_to_raw(der, size):
    """SEQUENCE { INTEGER r, INTEGER s } → r || s."""
    at = 2 + (der[1] & 0x7F if der[1] & 0x80 else 0)
    parts = []
    for _ in range(2):
        assert der[at] == 2
        length = der[at + 1]
        parts.append(int.from_bytes(der[at + 2:at + 2 + length], "big").to_bytes(size, "big"))
        at += 2 + length
    return b"".join(parts)


def token_of(header, payload, alg, key=SECRET):
    """header and payload: dict, or octets as they are."""
    parts = [part if isinstance(part, bytes) else _json.dumps(part, separators=(",", ":")).encode()
             for part in (header, payload)]
    data = ".".join(b64(part) for part in parts)
    return data + "." + b64(sign_input(data.encode(), alg, key))


def mint(claims=None, alg="HS256", key=SECRET, header=None, **more):
    """mint(sub="u1", tenant_id="t1"): exp is in an hour unless given; exp=None leaves it out."""
    payload = dict({"exp": int(time.time()) + 3600}, **(claims or {}), **more)
    payload = {name: value for name, value in payload.items() if value is not None}
    return token_of(dict({"alg": alg, "typ": "JWT"}, **(header or {})), payload, alg, key)
