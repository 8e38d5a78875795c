"""How cost grows: longer tokens, more connections, realms, policies, tokens. Cached unless it says otherwise."""

from .generators import Wrk
from .measure import Row
from .processes import allow_many_files
from .scene import checked
from .tables import env
from .tokens import SERVER

SIZES = (512, 1024, 2048, 4096, 8192, 16384)
CONNECTIONS = (1, 16, 64, 256, 1024, 4096, 10_000)
REALMS = (1, 100, 1000)
POLICIES = (1, 100, 1000)
DISTINCT = (1000, 10_000, 100_000, 1_000_000)
LEAN = 512  # bytes of a token of the last table


def sizes(scene):
    """Length of the token (Ed25519, whose signature leaves room for short ones)."""
    null, sidecar = scene.null_http(), scene.sidecar(max_size="64KiB")
    rows = []
    for size in SIZES:
        token = scene.tokens.one("EdDSA", size)
        load, name = Wrk(token=token), f"{size / 1024:g} KB"
        rows += [
            Row(f"null hyper, token of {name}", load, null.port, [null.process]),
            checked(f"Vidimus, token of {name}", load, sidecar.port, [sidecar.process], token,
                    against=f"null hyper, token of {name}"),
        ]
    return rows


def connections(scene):
    """Connections, each of which asks again as soon as it is answered."""
    token, rows = scene.tokens.one(), []
    for count in CONNECTIONS:
        if count + 300 > allow_many_files():
            scene.leave_out(f"{count:,} connections: only {allow_many_files():,} open files are allowed (ulimit -Hn)")
            continue
        # Thousands do not connect in an instant: the kernel's queue for new ones holds fewer.
        load, times = Wrk(token=token, connections=count), dict(seconds=5, warm=2.0) if count > 1024 else {}
        null, sidecar = scene.null_http(), scene.sidecar()  # of its own, for the memory that it takes
        name = "1 connection" if count == 1 else f"{count:,} connections"
        rows += [
            Row(f"null hyper, {name}", load, null.port, [null.process], **times),
            checked(f"Vidimus, {name}", load, sidecar.port, [sidecar.process], token, **times,
                    against=f"null hyper, {name}"),
        ]
    return rows


def realms(scene):
    """Realms: 1,000 tokens, as evenly as can be of all of them."""
    rows = []
    for count in REALMS:
        issuer = f"{SERVER}/realms/r%%%%"
        file = scene.tokens.many(1000, issuer=issuer, realms=count)
        with open(file) as tokens:
            token = tokens.readline().strip()
        sidecar = scene.sidecar(realms=count)
        name = "1 realm" if count == 1 else f"{count:,} realms"
        rows.append(checked(f"Vidimus, {name}", Wrk(env=env(file, 1000)), sidecar.port, [sidecar.process], token,
                            against=None if count == 1 else "Vidimus, 1 realm"))
    return rows


def policies(scene):
    """Policies: one token, at all of them in turn."""
    token = scene.tokens.one()
    rows = []
    for count in POLICIES:
        sidecar = scene.sidecar(policies=count)
        name = "1 policy" if count == 1 else f"{count:,} policies"
        load = Wrk(path="/auth/p0000", token=token, env={"LOAD_POLICIES": count})
        rows.append(checked(f"Vidimus, {name}", load, sidecar.port, [sidecar.process], token,
                            against=None if count == 1 else "Vidimus, 1 policy"))
    return rows


def distinct(scene):
    """Different tokens in a circle, under 64 MiB of cache (Ed25519, because a million RS256 signatures take
    minutes to make). What does not fit costs its signature each time; memory must not follow. Each row begins in
    the middle of its circle, where no row before it has been, and the two last come to no token twice."""
    file = scene.tokens.many(DISTINCT[-1], "EdDSA", LEAN)
    with open(file) as tokens:
        token = tokens.readline().strip()
    sidecar, rows = scene.sidecar(), []
    for count in DISTINCT:
        rows.append(checked(
            f"Vidimus, {count:,} tokens", Wrk(env=env(file, count), moves=True, asked=count // 2), sidecar.port,
            [sidecar.process], token, watch=sidecar.metrics, seconds=20 if count == DISTINCT[-1] else 3,
        ))
    return rows
