//! End to end: a real nginx with the file that we ship, the real `vidimus`, a real Keycloak.
//!
//! `cargo test --test e2e` runs them and prints a table; plain `cargo test` leaves them out. They need
//! the ports that the files in `deploy/` name (8080, 8081, 8443), nginx, curl, Java and the Keycloak
//! distributions (see `keycloak.rs`), and take 2 to 6 minutes, mostly for starts of Keycloak.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that lacks what it needs has failed"
)]

mod before_audience_rule;
mod caller;
mod certificates;
mod credentials;
mod demo;
mod doctor;
mod everyday;
mod inactive;
mod introspection;
mod keycloak;
mod lifecycle;
mod mutual_tls;
mod newcomer;
mod nginx;
mod outage;
mod process;
mod realm;
mod revocation;
mod rotation;
mod scene;
mod service;
mod sidecar;
mod table;
mod tokens;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use caller::Caller;
use keycloak::Keycloak;
use nginx::{Nginx, SITE};
use scene::Scene;
use service::{Service, own_body};
use sidecar::Sidecar;
use table::Table;
use tokio::time::timeout;

/// Beyond this something hangs.
const LIMIT: Duration = Duration::from_secs(420);

/// Between two fetches of keys, and between two that unknown key ids cause, in the main sidecar.
const REFRESH: Duration = Duration::from_secs(10);
const COOLDOWN: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn vidimus_guards_a_service_behind_nginx_with_tokens_of_keycloak() {
    let table = Table::new();
    if timeout(LIMIT, scenario(&table)).await.is_err() {
        table.judged("the whole scenario", "ends in time", "still runs", false);
    }
    table.finish();
}

/// The areas build on each other: what one starts or changes, the next finds that way.
async fn scenario(table: &Table) {
    table.area("start");
    let (nginx, service) = (Nginx::start().await, Service::start().await); // who lacks them knows at once
    let keycloak = Keycloak::start(keycloak::NEWEST).await;
    let configuration = configuration(&keycloak.issuer(), "");
    let sidecar = Sidecar::start(nginx.folder(), "main", "info", &configuration).await;
    let ready = sidecar.gets_ready(Duration::from_secs(10)).await;
    table.judged("the sidecar is ready once it has keys", "true", &ready.to_string(), ready);
    let mut house = House {
        site: Caller::new(SITE),
        keycloak,
        nginx,
        service,
        sidecar,
        number: AtomicU64::new(0),
    };

    table.area("1 who passes, and as whom");
    everyday::identity(&house, table).await;
    table.area("2 who does not pass");
    everyday::refusals(&house, table).await;
    table.area("3 asked without nginx");
    everyday::directly(&house, table).await;
    table.area("4 keys rotate");
    rotation::under_load(&house, table).await;
    rotation::unknown_keys(&house, table).await;
    rotation::attack(&house, table).await;
    table.area("5 Keycloak is out of reach");
    outage::outage(&mut house, table).await;
    table.area("6 reload");
    lifecycle::reload(&house, table).await;
    table.area("7 connections are kept");
    lifecycle::connections(&house, table).await;
    table.area("8 the service's own answers, and its absence");
    everyday::service(&mut house, table).await;
    introspection(&mut house, table).await;
    mutual_tls::edges(&house.keycloak, &house.service, house.nginx.folder(), table).await;
    table.area("6, 8 the sidecar ends, and comes again");
    lifecycle::end(&mut house, table).await;
    table.area("afterwards");
    lifecycle::logs(&house.keycloak, house.nginx.folder(), table);
}

/// Tokens that Keycloak must be asked about: by sidecars of their own, then by the main one.
async fn introspection(house: &mut House, table: &Table) {
    let scene = Scene { keycloak: &house.keycloak, folder: house.nginx.folder(), table };
    table.area("9 introspection: which tokens Keycloak is asked about");
    introspection::who_passes(&scene).await;
    table.area("9 introspection: the audience rule");
    inactive::audience(&scene, true).await;
    table.area("9 introspection: the full token beside the claims");
    introspection::full_jwt(&scene).await;
    table.area("9 introspection: by another address");
    inactive::another_address(&scene).await;
    table.area("9 doctor and inspect");
    doctor::findings(&scene, true).await;
    table.area("9 introspection: our own credentials");
    credentials::ways(&scene).await;
    credentials::wrong(&scene).await;
    table.area("9 introspection: sessions and keys end");
    revocation::sessions(&scene).await;
    revocation::keys(&scene).await;
    table.area("9 introspection: through nginx");
    introspection::through_nginx(house, table).await;
    table.area("9 introspection: Keycloak is out of reach");
    revocation::outage(house, table).await;
}

/// All that runs.
struct House {
    keycloak: Keycloak,
    nginx: Nginx,
    service: Service,
    sidecar: Sidecar,
    /// Asks nginx.
    site: Caller,
    number: AtomicU64,
}

impl House {
    /// An access token for this client.
    async fn token(&self, client: &str) -> String {
        self.keycloak.token(client).await
    }

    /// Alice's tokens, by the service's client.
    async fn alice(&self) -> realm::Tokens {
        self.keycloak.alice("orders-web").await
    }

    /// Remembers a token that Keycloak did not issue, to look for it in the logs.
    fn used(&self, token: &str) {
        self.keycloak.remember(token);
    }

    /// A path below `location` that nobody has asked for yet.
    fn path(&self, location: &str) -> String {
        format!("{location}{}", self.number.fetch_add(1, Ordering::Relaxed))
    }

    /// Asks below `location` through nginx, and tells the answer. The service must have got the
    /// request if it passed, and must not if it did not.
    async fn ask(&self, location: &str, token: Option<&str>) -> String {
        let path = self.path(location);
        let answer = self.site.get(&path, token).await;
        match (answer.status, self.service.arrived(&path).is_some()) {
            (200, true) if answer.body == own_body(200) => answer.told(),
            (200, _) => format!("{}, but not of the service: {}", answer.told(), answer.body),
            (_, false) => answer.told(),
            (_, true) => format!("{}, but the service got the request", answer.told()),
        }
    }
}

/// The configuration of the main sidecar: the policies that `nginx.conf` names, and two that are asked
/// directly. `default` is what policy `default` asks for.
fn configuration(issuer: &str, default: &str) -> String {
    format!(
        r#"[server]
listen = ["unix:run/vidimus/edge.sock", "127.0.0.1:0"]
admin = "127.0.0.1:0"
socket_mode = "0666"

[[realm]]
issuer = "{issuer}"
audience = ["orders-api"]
leeway = "0s"
[realm.jwks]
refresh = "{REFRESH:?}"
cooldown = "{COOLDOWN:?}"

[policy.default]
{default}

[policy.admin]
roles = ["realm:admin"]

[policy.reader]
scopes = ["orders:read"]

[policy.named.headers]
"X-Name" = "name"
"#
    )
}

/// The configuration of a sidecar beside the main one, asked directly.
fn beside(issuer: &str, refresh: &str, cooldown: &str) -> String {
    format!(
        r#"[server]
listen = ["127.0.0.1:0"]
admin = "127.0.0.1:0"

[[realm]]
issuer = "{issuer}"
audience = ["orders-api"]
[realm.jwks]
refresh = "{refresh}"
cooldown = "{cooldown}"
"#
    )
}
