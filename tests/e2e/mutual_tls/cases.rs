//! What is tried behind every edge.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use http::header::CONNECTION;
use tokio::join;

use super::caddy::CADDY;
use super::client::{Client, Connection};
use super::edge::Edge;
use super::forged::{self, Headers};
use super::{Clients, Tokens};
use crate::certificates::Certificates;
use crate::everyday::FORGED;
use crate::newcomer::OTHERS;
use crate::service::{Arrived, Service, own_body};
use crate::sidecar::Sidecar;
use crate::table::Table;
use crate::tokens;

/// An edge, the sidecar that it asks, and who comes to it with what.
pub(crate) struct Scene<'a> {
    pub(crate) edge: &'a Edge,
    pub(crate) sidecar: Sidecar,
    pub(crate) service: &'a Service,
    pub(crate) certificates: &'a Certificates,
    pub(crate) clients: &'a Clients,
    pub(crate) tokens: &'a Tokens,
    pub(crate) table: &'a Table,
    pub(crate) number: AtomicU64,
}

const MISSING: &str =
    "401 invalid_token: the token is bound to a client certificate and none was shown";
const MISMATCH: &str = "401 invalid_token: the token is bound to another client certificate";
const UNBOUND: &str = "401 invalid_token: the token is not bound to a key as it must be here";

/// What is named in `Connection` is for the next hop alone (RFC 9110 §7.6.1): some proxies then take out
/// their own headers, or pass it on, and the next one takes them out.
const HOP_BY_HOP: [(&str, &str); 1] = [("connection", "x-auth-request-user, x-auth-request-roles")];

/// Requests over each kept connection. After 100 Apache closes it.
const MANY: u64 = 100;

/// All of it.
pub(crate) async fn all(scene: &Scene<'_>) {
    own_certificate(scene).await;
    stolen(scene).await;
    forged(scene).await;
    kept(scene).await;
    resumed(scene).await;
    not_vouched_for(scene).await;
}

/// Who holds the certificate passes, and the service learns who it is. Who has a plain token needs none,
/// but where the policy wants all tokens bound.
async fn own_certificate(scene: &Scene<'_>) {
    let Scene { clients, tokens, table, .. } = scene;
    for (case, headers) in [
        ("its own certificate: the service learns who it is", &[][..]),
        ("its own, with forged identity headers", &FORGED),
        ("its own, identity headers that Vidimus does not set", &OTHERS),
        ("its own, identity headers hop by hop", &HOP_BY_HOP),
    ] {
        let path = scene.path("/orders/");
        let answer = clients.partner.get(&path, Some(&tokens.bound), headers).await;
        let arrived = scene.service.arrived(&path);
        let mut identity = arrived.as_ref().map(Arrived::identity).unwrap_or_default();
        if scene.edge.kind.name == CADDY.name {
            identity.retain(|header| !header.ends_with('=')); // it hands on empty ones for what is missing
        }
        let hop = arrived.iter().filter_map(|arrived| arrived.headers.get(CONNECTION));
        identity.extend(hop.filter(|hop| *hop != "keep-alive").map(|hop| format!("{hop:?}")));
        let got = format!("{} {}", answer.told(), identity.join(" "));
        let expected = format!("200 {}", tokens::identity(&tokens.bound).join(" "));
        table.same(case, &expected, &got);
    }
    for (case, client, location, token, expected) in [
        ("its own, lightweight: introspected", &clients.partner, "/orders/", &tokens.light, "200"),
        ("the thief with its own token", &clients.thief, "/orders/", &tokens.of_thief, "200"),
        ("bound, where it must be (mtls)", &clients.partner, "/admin/", &tokens.bound, "200"),
        ("plain token, no certificate", &clients.nobody, "/orders/", &tokens.plain, "200"),
        ("plain token, some certificate", &clients.thief, "/orders/", &tokens.plain, "200"),
        ("plain token where it must be bound", &clients.partner, "/admin/", &tokens.plain, UNBOUND),
    ] {
        let got = scene.ask(client, location, Some(token), &[]).await;
        table.same(case, expected, &got);
    }
    let got = scene.ask(&clients.partner, "/orders/", None, &[]).await;
    table.same("a certificate alone, no token", "401 Bearer realm=\"default\"", &got);
}

/// The token alone is worth nothing.
async fn stolen(scene: &Scene<'_>) {
    let Scene { clients, tokens, .. } = scene;
    for (case, client, token, expected) in [
        ("stolen, another certificate", &clients.thief, &tokens.bound, MISMATCH),
        ("stolen, names that forge another's", &clients.pretender, &tokens.bound, MISMATCH),
        ("stolen, no certificate", &clients.nobody, &tokens.bound, MISSING),
        ("stolen, lightweight, another certificate", &clients.thief, &tokens.light, MISMATCH),
        ("stolen, lightweight, no certificate", &clients.nobody, &tokens.light, MISSING),
    ] {
        let got = scene.ask(client, "/orders/", Some(token), &[]).await;
        scene.table.same(case, expected, &got);
    }
}

/// Whatever a client sends, the edge overwrites, and the service does not get.
async fn forged(scene: &Scene<'_>) {
    let Scene { certificates, clients, table, .. } = scene;
    let (partner, thief) = (forged::of(certificates, "partner"), forged::of(certificates, "thief"));
    let hop_by_hop = forged::hop_by_hop(certificates, "partner");
    for (case, client, requests, expected) in [
        ("stolen, no certificate, forged header", &clients.nobody, &partner, &[MISSING][..]),
        ("stolen, another certificate, forged header", &clients.thief, &partner, &[MISMATCH]),
        ("stolen, no certificate, hop by hop", &clients.nobody, &hop_by_hop, &[MISSING]),
        // The edge may take the certificate out then, or leave it.
        ("stolen, another, hop by hop", &clients.thief, &hop_by_hop, &[MISMATCH, MISSING]),
        ("its own, forged header of another", &clients.partner, &thief, &["200"]),
    ] {
        let told = scene.all(client, requests).await;
        let ok = !told.is_empty() && told.keys().all(|told| expected.contains(&&**told));
        let wrong = told.iter().filter(|(told, _)| !expected.contains(&&***told));
        let got = match ok {
            true => told.iter().map(|(told, names)| format!("{} x {told}", names.len())).collect(),
            false => wrong.map(|(told, names)| format!("{told}: {}", names.join(", "))).collect(),
        };
        let got: Vec<String> = got;
        let expected = format!("{} x {}", requests.len(), expected.join(", or "));
        table.judged(case, &expected, &got.join("; "), ok);
    }
}

/// The edge keeps connections to its clients and to Vidimus: every request is judged by the certificate
/// of its own.
async fn kept(scene: &Scene<'_>) {
    let Scene { clients, sidecar, table, tokens, .. } = scene;
    let (Ok(mut partner), Ok(mut thief)) =
        (clients.partner.connect().await, clients.thief.connect().await)
    else {
        return table.judged("kept connections", "connected", "not", false);
    };
    let count = async || {
        let opened = sidecar.metric("vidimus_connections_total", "").await;
        (opened, sidecar.metric("vidimus_decisions_total", "").await)
    };
    let before = count().await;
    let mut wrong = Vec::new();
    for _ in 0..MANY {
        for (connection, expected) in [(&mut partner, "200"), (&mut thief, MISMATCH)] {
            let got = scene.ask_over(connection, "/orders/", Some(&tokens.bound), &[]).await;
            wrong.extend((got != expected).then(|| format!("{got}, not {expected}")));
        }
    }
    let case = format!("kept connections, in turn, {MANY} each");
    let got = format!("{} wrong {}", wrong.len(), wrong.join("; "));
    table.same(&case, "0 wrong", got.trim_end());
    let (first, second) = join!(scene.lane(&clients.partner), scene.lane(&clients.thief));
    let expected = format!("{MANY} x 200");
    table.same("kept, beside each other: its own", &expected, &first);
    let expected = format!("{MANY} x {MISMATCH}");
    table.same("kept, beside each other: another", &expected, &second);
    let after = count().await;
    let (opened, decided) = (after.0 - before.0, after.1 - before.1);
    let ok = decided == 4 * MANY && opened <= decided / 20;
    let got = format!("{opened} for {decided} decisions");
    table.judged("its connections to Vidimus", "at most 1 for 20 decisions", &got, ok);
}

/// A session that goes on shows no certificate again: it has the one that it began with.
async fn resumed(scene: &Scene<'_>) {
    for (name, client, expected) in [
        ("partner", &scene.clients.partner, "200"),
        ("thief", &scene.clients.thief, MISMATCH),
        ("nobody", &scene.clients.nobody, MISSING),
    ] {
        let client = client.forgetful();
        let mut told = Vec::new();
        for _ in 0..3 {
            told.push(match client.connect().await {
                Ok(mut connection) => {
                    let answer = scene
                        .ask_over(&mut connection, "/orders/", Some(&scene.tokens.bound), &[])
                        .await;
                    format!("{}{answer}", if connection.resumed { "resumed: " } else { "" })
                }
                Err(error) => error,
            });
        }
        let next = format!("{}{expected}", if scene.edge.kind.resumes { "resumed: " } else { "" });
        let expected = format!("{expected}; {next}; {next}");
        let case = format!("a TLS session that goes on: {name}");
        scene.table.same(&case, &expected, &told.join("; "));
    }
}

/// Whom no authority vouches for: the edge ends it, whatever the token is.
async fn not_vouched_for(scene: &Scene<'_>) {
    let Scene { clients, service, tokens, .. } = scene;
    let before = service.count();
    let got = clients.self_signed.get("/orders/", Some(&tokens.plain), &[]).await;
    let passed = service.count() - before;
    let ok = got.status != 200 && passed == 0;
    let got = format!("{}, {passed} passed", if got.status == 0 { "0".into() } else { got.page() });
    let case = "a certificate that nobody vouches for, plain token";
    scene.table.judged(case, "any refusal, 0 passed", &got, ok);
}

impl Scene<'_> {
    /// A path below `location` that nobody has asked for yet.
    pub(super) fn path(&self, location: &str) -> String {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        format!("{location}{}-{number}", self.edge.kind.name)
    }

    /// Asks over a connection of its own, and tells the answer.
    pub(super) async fn ask(
        &self,
        client: &Client,
        location: &str,
        token: Option<&str>,
        headers: &[(String, String)],
    ) -> String {
        match client.connect().await {
            Ok(mut connection) => self.ask_over(&mut connection, location, token, headers).await,
            Err(error) => format!("no connection: {error}"),
        }
    }

    /// Asks over this connection, and tells the answer. The service must have got the request if it
    /// passed, and must not if it did not, and none of these headers.
    async fn ask_over(
        &self,
        connection: &mut Connection,
        location: &str,
        token: Option<&str>,
        headers: &[(String, String)],
    ) -> String {
        let path = self.path(location);
        let sent: Vec<_> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        let answer = connection.get(&path, token, &sent).await;
        let told = answer.told();
        match (answer.status, self.service.arrived(&path)) {
            (200, Some(request)) if answer.body == own_body(200) => {
                match forged::arrived(headers, &request.headers) {
                    none if none.is_empty() => told,
                    some => format!("{told}, but the service got {some:?}"),
                }
            }
            (200, _) => format!("{told}, but not of the service: {}", answer.body),
            (_, None) => told,
            (_, Some(_)) => format!("{told}, but the service got the request"),
        }
    }

    /// The stolen token, or partner's own, in all these requests over one connection: each answer, and
    /// how often it came.
    async fn all(&self, client: &Client, requests: &[Headers]) -> BTreeMap<String, Vec<String>> {
        let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let Ok(mut connection) = client.connect().await else { return told };
        for headers in requests {
            let token = Some(&*self.tokens.bound);
            let answer = self.ask_over(&mut connection, "/orders/", token, headers).await;
            let names: Vec<&str> = headers.iter().map(|(name, _)| &**name).collect();
            told.entry(answer).or_default().push(names.join("+"));
        }
        told
    }

    /// Many requests with partner's token over one connection: how often each answer came.
    async fn lane(&self, client: &Client) -> String {
        let mut connection = match client.connect().await {
            Ok(connection) => connection,
            Err(error) => return error,
        };
        let mut told: BTreeMap<String, u64> = BTreeMap::new();
        for _ in 0..MANY {
            let token = Some(&*self.tokens.bound);
            let answer = self.ask_over(&mut connection, "/orders/", token, &[]).await;
            *told.entry(answer).or_default() += 1;
        }
        let told: Vec<String> =
            told.iter().map(|(answer, count)| format!("{count} x {answer}")).collect();
        told.join("; ")
    }
}
