"""Keys and tokens of one machine, kept for as long as they are good. No key is in the source."""

import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path

from .needs import HOME
from .processes import Process, Trouble, free_port, wait_for
from . import ask

ISSUER = "https://id.example.com/realms/shop"
SERVER, REALM = ISSUER.rsplit("/realms/", 1)
FRESH = 20 * 24 * 3600  # they are good for 30 days
ALGORITHMS = ("RS256", "ES384", "EdDSA")
USUAL = 1094  # bytes


class Tokens:
    """Mints with the keys of this machine, and publishes them."""

    def __init__(self, null, work):
        self._null, self._work = null, work
        self._keys, self.folder = HOME / "keys", HOME / "tokens"
        for folder in (self._keys, self.folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._keys.chmod(0o700)
        self.der = work / "rs256.der"
        keys = [self._publish(algorithm) for algorithm in ALGORITHMS]
        self.jwks = work / "jwks.json"
        self.jwks.write_text(json.dumps({"keys": keys}))

    def _publish(self, algorithm):
        key = self._keys / f"{algorithm}.pk8"
        if not key.exists():
            for old in self.folder.glob(f"{algorithm}-*"):
                old.unlink()
            if algorithm == "RS256":
                pem = subprocess.run(["openssl", "genrsa", "2048"], capture_output=True, check=True).stdout
                convert = ["openssl", "pkcs8", "-topk8", "-nocrypt", "-outform", "DER", "-out", str(key)]
                subprocess.run(convert, input=pem, check=True)
            else:
                self._run("key", "--alg", algorithm, "--out", key)
            key.chmod(0o600)
        return json.loads(self._run("jwk", *self._signer(algorithm), "--der", self.der))

    def _signer(self, algorithm):
        return ["--alg", algorithm, "--key", self._keys / f"{algorithm}.pk8", "--kid", f"load-{algorithm}"]

    def _run(self, *command):
        done = subprocess.run([str(part) for part in (self._null, *command)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise Trouble(done.stderr.strip())
        return done.stdout

    def many(self, count, algorithm="RS256", size=USUAL, issuer=ISSUER, realms=1):
        """A file with so many different tokens of one length, one a line."""
        kind = "" if issuer == ISSUER else f"-of-{realms}"
        file = self.folder / f"{algorithm}-{count}-{size}{kind}"
        try:
            if time.time() - file.stat().st_mtime < FRESH:
                return file
        except OSError:
            pass
        if count >= 20_000:
            print(f"making {count:,} tokens with {algorithm}, once", flush=True)
        new = file.with_suffix(".new")
        self._run("mint", *self._signer(algorithm), "--issuer", issuer, "--count", count, "--bytes", size,
                  "--realms", realms, "--out", new)
        new.rename(file)
        return file

    def one(self, algorithm="RS256", size=USUAL, **others):
        with open(self.many(1, algorithm, size, **others)) as file:
            return file.readline().strip()

    def stranger(self):
        """A token of another realm, with a good signature by a key that the realm has too."""
        return self.one(issuer=f"{SERVER}/realms/r%%%%")

    def question(self, token):
        """What Envoy asks by gRPC, in a file."""
        file = self._work / f"question-{hashlib.sha256(token.encode()).hexdigest()[:16]}"
        self._run("question", "--token", token, "--out", file)
        return file

    def public_key(self):
        """The realm's RSA key as keycloak-connect wants it: SubjectPublicKeyInfo in base64."""
        pem = subprocess.run(
            ["openssl", "pkey", "-inform", "DER", "-in", str(self._keys / "RS256.pk8"), "-pubout"],
            capture_output=True, text=True, check=True,
        ).stdout
        return "".join(pem.strip().split("\n")[1:-1])

    def certificate(self):
        """The realm's RSA key as mod_auth_openidc wants it where the issuer has no https: KID#FILE."""
        file = self._work / "rs256.pem"
        command = ["openssl", "req", "-x509", "-new", "-subj", "/CN=load", "-days", "30", "-out", str(file)]
        key = ["-keyform", "DER", "-key", str(self._keys / "RS256.pk8")]
        subprocess.run(command + key, capture_output=True, check=True)
        return f"load-RS256#{file}"


class Issuer:
    """Every realm under one address: discovery, keys, introspection."""

    def __init__(self, jwks, work, core):
        self.port = free_port()
        script = Path(__file__).with_name("issuer.py")
        self.process = Process("issuer", [sys.executable, "-B", script, self.port, SERVER, jwks], work, core=core)
        self.base = f"http://127.0.0.1:{self.port}"
        self.jwks_uri = f"{self.base}/realms/{REALM}/protocol/openid-connect/certs"
        wait_for("the issuer", self.process, lambda: ask.get(self.port, "/realms/shop/protocol/openid-connect/certs"))
