"""Vidimus, with the configuration that a measurement needs."""

import time

from . import ask
from .processes import Process, free_port, wait_for
from .tokens import ISSUER, SERVER

INTROSPECTION = """
[realm.introspection]
client_id = "vidimus"
client_secret = "load"
max_concurrent = 256
"""


class Vidimus:
    """A running sidecar: over TCP at `port`, over a unix socket at `socket`."""

    def __init__(self, scene, name, cache=None, realms=0, policies=0, introspection=False, max_size=None, ready=True,
                 program=None):
        self.port, self.admin = free_port(), free_port()
        self.socket = scene.work / f"{name}.sock"
        text = [f'[server]\nlisten = ["127.0.0.1:{self.port}", "unix:{self.socket}"]\nadmin = "127.0.0.1:{self.admin}"']
        if max_size:
            text.append(f'[token]\nmax_size = "{max_size}"')
        if cache:
            text.append(f'[cache]\nmax_bytes = "{cache}"')
        issuers = [f"{SERVER}/realms/r{number:04}" for number in range(realms)] or [ISSUER]
        for issuer in issuers:
            text.append(f'[[realm]]\nissuer = "{issuer}"\naudience = ["orders-api"]\nfetch_base = "{scene.issuer.base}"')
            text.append(INTROSPECTION if introspection else "")
        text += [f'[policy.p{number:04}]\nscopes = ["orders:read"]' for number in range(policies)]
        config = scene.work / f"{name}.toml"
        config.write_text("\n".join(text) + "\n")
        self.began = time.monotonic()
        self.process = Process(name, [program or scene.vidimus, "serve", "-c", config], scene.work)
        if ready:
            wait_for(name, self.process, self.is_ready, 60)

    def is_ready(self):
        return ask.get(self.admin, "/readyz")[0] == 200

    def metrics(self):
        return ask.metrics(self.admin)
