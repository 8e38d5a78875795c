//! Where introspection is tried: a Keycloak, sidecars that ask it, and the table for what comes back.

use std::path::Path;
use std::time::Duration;

use crate::keycloak::Keycloak;
use crate::sidecar::Sidecar;
use crate::table::Table;

/// The sidecar as Keycloak's client `vidimus`.
pub(crate) const VIDIMUS: &str = "client_id = \"vidimus\"\nclient_secret = \"vidimus-secret\"";

/// A token that says nothing: of RFC 6749, made longer.
pub(crate) const OPAQUE: &str = "2YotnFZFEjr1zCsicMWpAAA4Z8lH";

/// That its realm says no about a token.
pub(crate) const INACTIVE: &str = "401 invalid_token: the token is not active";

/// That it cannot be asked.
pub(crate) const UNAVAILABLE: &str = "503, Retry-After 5";

#[derive(Clone, Copy)]
pub(crate) struct Scene<'a> {
    pub(crate) keycloak: &'a Keycloak,
    pub(crate) folder: &'a Path,
    pub(crate) table: &'a Table,
}

/// What a sidecar's configuration says beside the issuer, in lines of the file.
#[derive(Clone, Copy, Default)]
pub(crate) struct Lines<'a> {
    pub(crate) realm: &'a str,
    pub(crate) introspection: &'a str,
    pub(crate) policy: &'a str,
}

impl<'a> Lines<'a> {
    /// Those of `[realm.introspection]` alone.
    pub(crate) fn of(introspection: &'a str) -> Self {
        Self { introspection, ..Self::default() }
    }
}

impl Scene<'_> {
    /// A sidecar that introspects, and has keys. It logs all it can, for the look into the logs at the
    /// end.
    pub(crate) async fn sidecar(&self, name: &str, lines: Lines<'_>) -> Sidecar {
        self.sidecar_of(name, &self.keycloak.issuer(), lines).await
    }

    /// The same for another address of the realm.
    pub(crate) async fn sidecar_of(&self, name: &str, issuer: &str, lines: Lines<'_>) -> Sidecar {
        let configuration = configuration(issuer, lines);
        let sidecar = Sidecar::start(self.folder, name, "trace", &configuration).await;
        if !sidecar.gets_ready(Duration::from_secs(10)).await {
            self.table.judged(&format!("{name} is ready"), "true", &sidecar.log(), false);
        }
        sidecar
    }

    /// A row: what a token gets, and how many calls it causes.
    pub(crate) async fn row(&self, case: &str, sidecar: &Sidecar, token: &str, expected: &str) {
        self.row_at("/auth", case, sidecar, token, expected).await;
    }

    /// The same under a policy.
    pub(crate) async fn row_at(
        &self,
        path: &str,
        case: &str,
        sidecar: &Sidecar,
        token: &str,
        expected: &str,
    ) {
        self.keycloak.remember(token);
        let before = sidecar.calls().await;
        let answer = sidecar.edge().get(path, Some(token)).await;
        let got = match sidecar.calls().await - before {
            0 => format!("{}; no call", answer.told()),
            1 => format!("{}; a call", answer.told()),
            calls => format!("{}; {calls} calls", answer.told()),
        };
        self.table.same(case, expected, &got);
    }
}

/// The configuration of a sidecar that is asked directly.
pub(crate) fn configuration(issuer: &str, lines: Lines<'_>) -> String {
    let Lines { realm, introspection, policy } = lines;
    format!(
        r#"[server]
listen = ["127.0.0.1:0"]
admin = "127.0.0.1:0"

[[realm]]
issuer = "{issuer}"
audience = ["orders-api"]
leeway = "0s"
{realm}
[realm.jwks]
refresh = "10s"
cooldown = "1s"
[realm.introspection]
{introspection}

[policy.default]
{policy}

[policy.admin]
roles = ["realm:admin"]

[policy.reader]
scopes = ["orders:read"]
"#
    )
}
