"""What is measured: for each table its rows, in the order in which they take turns."""

from .generators import H2load, Wrk
from .edges import ext_authz, jwt_authn
from .measure import Row
from .peers import Apache, Node
from .scene import checked, checked_grpc
from .tokens import ISSUER

def env(file, count, **others):
    return {"LOAD_TOKENS": file, "LOAD_COUNT": count, **others}


def http(scene):
    """Cached, over HTTP: one token, 1,000 tokens, Zipf over 100,000, unix socket."""
    token = scene.tokens.one()
    null, sidecar, full, nginx = scene.null_http(), scene.sidecar(), scene.sidecar(), scene.nginx()
    null_unix, busy = scene.null_http(unix=True), scene.null_http(busy=800)
    one, unix = Wrk(token=token), H2load(token=token)
    thousand = Wrk(env=env(scene.tokens.many(1000), 1000))
    zipf = Wrk(env=env(scene.tokens.many(scene.crowd), scene.crowd, LOAD_ORDER="zipf"), moves=True)
    own, spread = [sidecar.process], f"Zipf over {scene.crowd:,} tokens"
    return [
        Row("null hyper", one, null.port, [null.process]),
        Row("null nginx (return 204)", one, nginx.port, [nginx.process], "null hyper"),
        Row("null hyper, busy for 0.8 µs", one, busy.port, [busy.process], "null hyper"),
        checked("Vidimus, one token", one, sidecar.port, own, token, against="null hyper"),
        Row("null hyper, 1,000 tokens", thousand, null.port, [null.process]),
        checked("Vidimus, 1,000 tokens", thousand, sidecar.port, own, token, against="null hyper, 1,000 tokens"),
        Row(f"null hyper, {spread}", zipf, null.port, [null.process]),
        checked(f"Vidimus, {spread}, 64 MiB of cache", zipf, full.port, [full.process], token,
                against=f"null hyper, {spread}", watch=full.metrics, warm=2.0),
        Row("null hyper, unix socket", unix, null_unix.socket, [null_unix.process]),
        checked("Vidimus, one token, unix socket", unix, sidecar.socket, own, token, against="null hyper, unix socket"),
    ]


def new(scene):
    """Every token new: many in a circle through the smallest cache."""
    token = scene.tokens.one()
    null, sidecar = scene.null_http(verify=True), scene.sidecar(cache="1MiB")
    load = Wrk(env=env(scene.tokens.many(scene.crowd), scene.crowd), moves=True)
    rows = [
        checked("null hyper + ring RS256", load, null.port, [null.process], token),
        checked("Vidimus, every token new", load, sidecar.port, [sidecar.process], token,
                against="null hyper + ring RS256", watch=sidecar.metrics),
    ]
    if scene.aws_lc:
        other = scene.sidecar(cache="1MiB", program=scene.aws_lc)
        rows.append(checked("Vidimus with AWS-LC, every token new", load, other.port, [other.process], token,
                            against="null hyper + ring RS256", watch=other.metrics))
    return rows


def opaque(scene):
    """Opaque tokens: introspected, and the answer kept for 30 s."""
    names = scene.work / "opaque"
    names.write_text("".join(f"good-{number:038}\n" for number in range(1000)))
    token = names.read_text().split("\n")[0]
    null, sidecar = scene.null_http(), scene.sidecar(introspection=True)
    one, many = Wrk(token=token), Wrk(env=env(names, 1000))
    row = lambda name, load, against: checked(
        name, load, sidecar.port, [sidecar.process], token, against=against, watch=sidecar.metrics)
    return [
        Row("null hyper, opaque token", one, null.port, [null.process]),
        row("Vidimus, one opaque token", one, "null hyper, opaque token"),
        Row("null hyper, 1,000 opaque tokens", many, null.port, [null.process]),
        row("Vidimus, 1,000 opaque tokens", many, "null hyper, 1,000 opaque tokens"),
    ]


def grpc(scene):
    """ext_authz by gRPC, cached, a question with 20 headers. The null server sends as many headers as Vidimus."""
    token = scene.tokens.one()
    question = scene.tokens.question(token)
    sidecar, rows = scene.sidecar(), []
    for name, unix, connections, streams in (
        ("1 x 64", False, 1, 64), ("4 x 16", False, 4, 16), ("1 x 64, unix socket", True, 1, 64),
    ):
        load = H2load(message=question, connections=connections, streams=streams)
        null = scene.null_grpc(unix, headers=True)
        target = sidecar.socket if unix else sidecar.port
        rows += [
            Row(f"null tonic, {name}", load, null.port, [null.process]),
            checked_grpc(scene, f"Vidimus, gRPC, {name}", load, target, [sidecar.process], token,
                         against=f"null tonic, {name}"),
        ]
    load, null = H2load(message=question, connections=1, streams=64), scene.null_grpc()
    rows.insert(2, Row("null tonic that says OK and no more, 1 x 64", load, null.port, [null.process],
                       "null tonic, 1 x 64"))
    return rows


def nginx(scene):
    """Behind nginx, over a unix socket."""
    token = scene.tokens.one()
    load = Wrk(path="/orders/7", token=token)
    null, sidecar = scene.null_http(unix=True), scene.sidecar()
    bare, null_edge, edge = scene.nginx(), scene.nginx(socket=null.socket), scene.nginx(socket=sidecar.socket)
    return [
        Row("nginx + null hyper", load, null_edge.port, [null_edge.process, null.process]),
        checked("nginx + Vidimus", load, edge.port, [edge.process, sidecar.process], token,
                against="nginx + null hyper"),
        Row("nginx without any check", load, bare.port, [bare.process], "nginx + null hyper"),
    ]


def envoy(scene):
    """Behind Envoy, by gRPC over a unix socket; and Envoy's own check of tokens."""
    token = scene.tokens.one()
    load = Wrk(path="/orders/7", token=token)
    crowd = Wrk(path="/orders/7", env=env(scene.tokens.many(2000), 2000))
    null, sidecar = scene.null_grpc(unix=True, headers=True), scene.sidecar()
    edge = lambda socket: scene.envoy_with(auth=ext_authz(), socket=socket)
    bare, null_edge, own_edge = scene.envoy_with(), edge(null.socket), edge(sidecar.socket)
    keys = scene.tokens.jwks
    narrow, cached, uncached = (scene.envoy_with(auth=jwt_authn(ISSUER, keys, size)) for size in (1000, 4000, 0))
    against = "Envoy + null tonic"
    row = lambda name, load, own: checked(
        name, load, own.port, [own.process], token, stranger=scene.tokens.stranger(), against=against)
    pair = [own_edge.process, sidecar.process]
    return [
        Row("Envoy + null tonic", load, null_edge.port, [null_edge.process, null.process]),
        checked("Envoy + Vidimus", load, own_edge.port, pair, token, against=against),
        checked("Envoy + Vidimus, 2,000 tokens", crowd, own_edge.port, pair, token, against=against),
        Row("Envoy without any check", load, bare.port, [bare.process], against),
        row("Envoy jwt_authn, cached, one token", load, cached),
        row("Envoy jwt_authn, cached, 2,000 tokens", crowd, cached),
        row("Envoy jwt_authn, cache of 1,000, 2,000 tokens in a circle: never found", crowd, narrow),
        row("Envoy jwt_authn, no cache", load, uncached),
    ]


def peers(scene):
    """As a target for auth_request that answers 2xx for the same token. Whoever has no cache is asked with the
    tokens of which every one is new to Vidimus."""
    token = scene.tokens.one()
    load = Wrk(token=token)
    crowd = Wrk(env=env(scene.tokens.many(2000), 2000))
    all_new = Wrk(env=env(scene.tokens.many(scene.crowd), scene.crowd), moves=True)
    null, sidecar, small = scene.null_http(), scene.sidecar(), scene.sidecar(cache="1MiB")
    keys = scene.tokens.jwks
    cached, uncached = (scene.envoy_with(auth=jwt_authn(ISSUER, keys, size)) for size in (4000, 0))
    apache, keycloak, bearer = Apache(scene), Node(scene, "keycloak"), Node(scene, "bearer")
    row = lambda name, load, own, **others: checked(
        name, load, own.port, [own.process], token, stranger=scene.tokens.stranger(), against="null hyper", **others)
    return [
        Row("null hyper", load, null.port, [null.process]),
        row("Vidimus, cached, one token", load, sidecar),
        row("Vidimus, cached, 2,000 tokens", crowd, sidecar),
        row("Vidimus, every token new", all_new, small, watch=small.metrics),
        row("Envoy jwt_authn, cached, one token", load, cached),
        row("Envoy jwt_authn, cached, 2,000 tokens", crowd, cached),
        row("Envoy jwt_authn, no cache", all_new, uncached),
        row("Apache mod_auth_openidc, no cache", all_new, apache),
        row("express-oauth2-jwt-bearer, no cache", all_new, bearer, warm=2.0),
        row("keycloak-connect (deprecated), no cache", all_new, keycloak, refusal=403, warm=2.0),
    ]
