"""What every table needs: programs, tokens, an issuer, and servers that end with their table."""

import os
from contextlib import contextmanager

from . import ask
from .cores import LOAD_CORE
from .edges import Envoy, Nginx
from .measure import Row
from .processes import Process, Trouble, end_all, free_port, wait_for
from .sidecar import Vidimus
from .tokens import Issuer, Tokens


class Scene:
    """Paths of programs and tokens, and the servers of one table at a time."""

    def __init__(self, vidimus, null, envoy, node, work, crowd=100_000):
        self.vidimus, self.null_path, self.envoy, self.node, self.work = vidimus, null, envoy, node, work
        self.aws_lc = None  # another sidecar, for the tables that have rows of it
        self.crowd = crowd  # tokens where there are many; 100,000 with RS256 take a minute to make
        self.is_root = os.getuid() == 0
        self.tokens = Tokens(null, work)
        self.issuer = None
        self.left_out = []
        self._names = 0

    @contextmanager
    def table(self):
        self.issuer = Issuer(self.tokens.jwks, self.work, LOAD_CORE)
        try:
            yield
        finally:
            end_all()

    def leave_out(self, what):
        """Says, now and in the facts about the run, what this machine cannot measure."""
        if what not in self.left_out:
            self.left_out.append(what)
            print(f"left out: {what}", flush=True)

    def name(self, kind):
        self._names += 1
        return f"{kind}-{self._names}"

    def sidecar(self, **settings):
        return Vidimus(self, self.name("vidimus"), **settings)

    def null_http(self, unix=False, verify=False, busy=0):
        extra = ["--verify", self.tokens.der] if verify else ["--busy", busy] if busy else []
        return self._null("http", unix, extra)

    def null_grpc(self, unix=False, headers=False):
        return self._null("grpc", unix, ["--headers"] if headers else [])

    def _null(self, kind, unix, extra):
        name = self.name(f"null-{kind}")
        target = self.work / f"{name}.sock" if unix else free_port()
        where = ["--unix", target] if unix else ["--listen", f"127.0.0.1:{target}"]
        process = Process(name, [self.null_path, kind, *where, *extra], self.work)
        wait_for(name, process, lambda: _connects(target))
        return Null(target, process)

    def nginx(self, **settings):
        return Nginx(self, self.name("nginx"), **settings)

    def envoy_with(self, **settings):
        return Envoy(self, self.name("envoy"), **settings)


class Null:
    """A null server and where it is."""

    def __init__(self, target, process):
        self.port = self.socket = target
        self.process = process


def _connects(target):
    import socket

    with socket.socket(socket.AF_INET if isinstance(target, int) else socket.AF_UNIX) as probe:
        probe.connect(("127.0.0.1", target) if isinstance(target, int) else str(target))
    return True


def checked(name, load, target, processes, good, refusal=401, stranger=None, **others):
    """A row of a server that has just shown that it tells a good token from a forged one, and from a stranger's."""
    expect(name, "the good token", ask.status(target, load.path, good), range(200, 300))
    expect(name, "a forged one", ask.status(target, load.path, ask.forged(good)), (refusal,))
    if stranger:
        expect(name, "one of another issuer", ask.status(target, load.path, stranger), (401, 403))
    return Row(name, load, target, processes, **others)


def checked_grpc(scene, name, load, target, processes, good, **others):
    """The same by gRPC, where the load holds the good one."""
    expect(name, "the good token", ask.grpc_status(target, load.message), (200,))
    bad = scene.tokens.question(ask.forged(good))
    expect(name, "a forged one", ask.grpc_status(target, bad), (401,))
    return Row(name, load, target, processes, **others)


def expect(name, what, status, allowed):
    if status not in allowed:
        raise Trouble(f"{name} answers {status} to {what}: it cannot be measured")
