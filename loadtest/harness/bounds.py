"""The numbers to reach."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Bound:
    """One of them: what `read` finds in the figures of `table` must be at least, or at most, the limit."""

    text: str
    table: str
    read: object
    least: float | None = None
    most: float | None = None
    unit: str = ""

    def value(self, figures):
        """None if the table was not measured."""
        found = figures.get(self.table)
        return None if found is None else self.read(found)

    def holds(self, value):
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    def shortfall(self, value):
        """By what share of the limit it is missed; 0 if it holds."""
        if self.holds(value):
            return 0.0
        return abs(value / (self.least if self.most is None else self.most) - 1)

    def limit(self):
        sign, limit = ("≥", self.least) if self.most is None else ("≤", self.most)
        return f"{sign} {limit:g}{self.unit}"


def row(name, key="ratio"):
    """None if it was not measured."""
    return lambda figures: next((getattr(figure, key) for figure in figures if figure.row.name == name), None)


def ahead(own, peer):
    """How many times as many answers as a peer."""
    rate = lambda figures, name: row(name, "rate")(figures)
    return lambda figures: rate(figures, own) / rate(figures, peer)


def resident(figures):
    """Against the accounted bytes, which are what a tight bound would be."""
    full = figures["all fit"]
    return (full["resident"] - figures["idle"]) / full["accounted"]


def bounded(figures):
    return (figures["64 MiB of cache"]["resident"] - figures["idle"]) / 64


BOUNDS = [
    Bound("`/auth`, cached: throughput against null hyper", "http", row("Vidimus, one token"), least=0.90),
    Bound("`/auth`, cached: p99 against null hyper", "http", row("Vidimus, one token", "p99_ratio"), most=1.2),
    Bound("`/auth`, every token new, RS256: throughput against null hyper + bare ring", "new",
          row("Vidimus, every token new"), least=0.92),
    Bound("gRPC, cached: throughput against null tonic", "grpc", row("Vidimus, gRPC, 1 x 64"), least=0.90),
    Bound("gRPC, cached: p99 against null tonic", "grpc", row("Vidimus, gRPC, 1 x 64", "p99_ratio"), most=1.2),
    Bound("nginx + Vidimus over a unix socket: throughput against nginx + null hyper", "nginx",
          row("nginx + Vidimus"), least=0.95),
    Bound("1,000 realms: throughput against 1", "realms", row("Vidimus, 1,000 realms"), least=0.97),
    *(
        Bound(f"p99 of hits while ES384 misses run against hits alone, {load}", "stall",
              row(f"hits while misses run, {load}", "p99_ratio"), most=1.5)
        for load in ("as fast as it goes", "light load", "as fast as it goes, with AWS-LC")
    ),
    Bound("resident memory, idle", "memory", lambda figures: figures["idle"], most=15, unit=" MiB"),
    Bound("resident memory beyond idle with 100,000 proofs, against their bytes by `vidimus_token_cache_bytes`",
          "memory", resident, most=1.3),
    Bound("resident memory beyond idle with 100,000 tokens and a bound of 64 MiB, against that bound", "memory", bounded,
          most=1.3),
    Bound("start to ready, issuer on loopback", "start", lambda figures: figures["start"], most=100, unit=" ms"),
    *(
        Bound(f"{own}: answers against {peer}, each asked directly", "peers", ahead(own, peer), least=1.0)
        for own, peer in (
            *((f"Vidimus, cached, {load}", f"Envoy jwt_authn, cached, {load}") for load in ("one token", "2,000 tokens")),
            *((own, f"{peer}, no cache") for own in ("Vidimus, every token new", "Vidimus, cached, one token") for peer in (
                "Envoy jwt_authn", "Apache mod_auth_openidc", "express-oauth2-jwt-bearer", "keycloak-connect (deprecated)",
            )),
        )
    ),
]


def verdicts(figures):
    """Every bound whose table was measured, its value, and whether it holds."""
    values = [(bound, bound.value(figures)) for bound in BOUNDS]
    return [(bound, value, bound.holds(value)) for bound, value in values if value is not None]
