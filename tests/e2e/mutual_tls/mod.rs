//! Tokens that are bound to a client certificate (RFC 8705), behind every proxy that we ship a file for:
//! each runs as it is, ends mutual TLS, and forwards the certificate in its own way.
//!
//! The tokens are got once, so every edge but the first also sees tokens that were good elsewhere.

mod apache;
mod caddy;
mod cases;
mod client;
pub(crate) mod edge;
pub(crate) mod envoy;
mod forged;
mod grpc;
pub(crate) mod guarded;
mod haproxy;
mod nginx;

use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use ring::digest::{SHA256, digest};

use crate::keycloak::Keycloak;
use crate::scene::VIDIMUS;
use crate::service::Service;
use crate::sidecar::Sidecar;
use crate::table::Table;
use crate::tokens;
use cases::Scene;
use client::Client;
use edge::{Edge, Kind};

/// One after the other: they listen at the same address.
const EDGES: &[&Kind] = &[
    &nginx::NGINX,
    &apache::APACHE,
    &haproxy::HAPROXY,
    &haproxy::HAPROXY_DER,
    &envoy::ENVOY,
    &envoy::ENVOY_BARE,
    &envoy::ENVOY_HTTP,
    &caddy::CADDY,
];

/// Every edge, with a sidecar of its own, in a folder below `folder`.
pub(crate) async fn edges(keycloak: &Keycloak, service: &Service, folder: &Path, table: &Table) {
    table.area("10 certificate-bound tokens: Keycloak binds them");
    let tokens = Tokens::get(keycloak).await;
    bound(keycloak, &tokens, table);
    let clients = Clients {
        partner: Client::new(keycloak.certificates.client(Some("partner"))),
        thief: Client::new(keycloak.certificates.client(Some("thief"))),
        pretender: Client::new(keycloak.certificates.client(Some("pretender"))),
        nobody: Client::new(keycloak.certificates.client(None)),
        self_signed: Client::new(keycloak.certificates.client(Some("self-signed"))),
    };
    for kind in EDGES {
        table.area(&format!("10 certificate-bound tokens: {}", kind.name));
        let folder = folder.join(kind.name);
        let edge = Edge::start(kind, &folder, &keycloak.certificates).await;
        let configuration = configuration(keycloak, kind);
        let sidecar = Sidecar::start(&folder, "vidimus", "trace", &configuration).await;
        let ready = sidecar.gets_ready(Duration::from_secs(10)).await;
        table.judged("the sidecar is ready", "true", &ready.to_string(), ready);
        let (clients, tokens, number) = (&clients, &tokens, AtomicU64::new(0));
        let certificates = &keycloak.certificates;
        let scene =
            Scene { edge: &edge, sidecar, service, certificates, clients, tokens, table, number };
        let wrong = table.wrong();
        cases::all(&scene).await;
        if kind.grpc {
            grpc::all(&scene, &configuration).await;
        }
        guarded::all(&scene).await;
        if table.wrong() > wrong {
            table.judged("so its logs are looked at", "not needed", &edge.logs(), false);
        }
    }
}

/// Got once, of the issuer that answers over https.
pub(crate) struct Tokens {
    /// Bound to `partner`.
    pub(crate) bound: String,
    /// The same, and lightweight: it must be introspected.
    pub(crate) light: String,
    /// Of the thief, bound to its own certificate.
    pub(crate) of_thief: String,
    /// Not bound.
    pub(crate) plain: String,
}

impl Tokens {
    async fn get(keycloak: &Keycloak) -> Self {
        Self {
            bound: keycloak.bound_token("orders-bound", "partner").await,
            light: keycloak.bound_token("orders-bound-light", "partner").await,
            of_thief: keycloak.bound_token("orders-bound", "thief").await,
            plain: keycloak.secure_token("orders-es256").await,
        }
    }
}

/// Who connects: with the certificate of that name, or none. Each remembers its TLS sessions.
pub(crate) struct Clients {
    pub(crate) partner: Client,
    pub(crate) thief: Client,
    /// A thief whose certificate has names that look like the partner's part of Envoy's header.
    pub(crate) pretender: Client,
    pub(crate) nobody: Client,
    pub(crate) self_signed: Client,
}

/// Keycloak's tokens are what they are taken for.
fn bound(keycloak: &Keycloak, tokens: &Tokens, table: &Table) {
    let thumbprint =
        |name| BASE64URL.encode(digest(&SHA256, &keycloak.certificates.der(name)).as_ref());
    let (partner, thief) = (thumbprint("partner"), thumbprint("thief"));
    for (case, token, expected) in [
        ("cnf of partner's token", &tokens.bound, &*partner),
        ("cnf of its lightweight token", &tokens.light, &partner),
        ("cnf of thief's own token", &tokens.of_thief, &thief),
        ("cnf of the plain token", &tokens.plain, "none"),
    ] {
        let claims = tokens::claims(token);
        table.same(case, expected, claims["cnf"]["x5t#S256"].as_str().unwrap_or("none"));
    }
}

/// The policies that the edges' files name: a bound token needs its certificate; only bound ones pass.
fn configuration(keycloak: &Keycloak, kind: &Kind) -> String {
    let (issuer, ca) = (&keycloak.secure_base, keycloak.certificates.file("ca.pem"));
    format!(
        r#"[server]
listen = ["unix:run/vidimus/edge.sock", "127.0.0.1:0"]
admin = "127.0.0.1:0"
socket_mode = "0666"

[client_certificate]
{}

[[realm]]
issuer = "{issuer}/realms/shop"
audience = ["orders-api"]
ca_file = "{}"
[realm.introspection]
{VIDIMUS}

[policy.default]
binding = "if-bound"
[policy.default.metadata]
client = "azp"

[policy.admin]
binding = "mtls"
"#,
        kind.provider,
        ca.display()
    )
}
