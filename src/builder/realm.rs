//! `[[realm]]` and `[realm.introspection]`, typed.

use std::path::Path;
use std::time::Duration;

use super::keys::Keys;
use crate::check::{Algorithm, UseFor};

/// A realm whose tokens are accepted.
#[derive(Clone)]
#[must_use = "give it to GateBuilder::realm"]
pub struct Realm(pub(super) Keys);

impl Realm {
    /// By its issuer, exactly as `iss` has it. It needs an audience too.
    pub fn new(issuer: &str) -> Self {
        let mut keys = Keys::default();
        keys.text("issuer", issuer);
        Self(keys)
    }

    /// Its name in policies, metrics and logs: 1 to 64 letters, digits, `.`, `_` or `-`. Default: the last
    /// segment of the issuer.
    pub fn name(mut self, name: &str) -> Self {
        self.0.text("name", name);
        self
    }

    /// Whom a token must be meant for: one of these in `aud`.
    pub fn audience(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.0.list("audience", names);
        self
    }

    /// Accepts tokens for any service: one that leaks there opens this one too.
    pub fn insecure_any_audience(mut self) -> Self {
        self.0.flag("insecure_any_audience");
        self
    }

    /// Which algorithms may sign. Default: all that are built in, none of them symmetric.
    pub fn algorithms(mut self, algorithms: impl IntoIterator<Item = Algorithm>) -> Self {
        self.0.list("algorithms", algorithms.into_iter().map(Algorithm::name));
        self
    }

    /// How far the issuer's clock may be off, up to 300 s. Default 5 s.
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.0.time("leeway", leeway);
        self
    }

    /// Values of the JOSE header `typ`. Default `JWT` (or none) and `at+jwt`; the latter alone is RFC 9068.
    pub fn header_types(mut self, types: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.0.list("header_types", types);
        self
    }

    /// An inside address to reach the issuer by.
    pub fn fetch_base(mut self, url: &str) -> Self {
        self.0.text("fetch_base", url);
        self
    }

    /// PEM certificates to trust instead of the operating system's.
    pub fn ca_file(mut self, path: impl AsRef<Path>) -> Self {
        self.0.path("ca_file", path.as_ref());
        self
    }

    /// Allows plain http to another machine: whoever is on the way may then forge any token.
    pub fn insecure_http(mut self) -> Self {
        self.0.flag("insecure_http");
        self
    }

    /// Between two scheduled fetches of keys, 10 s to 24 h. Default 5 min.
    pub fn refresh(mut self, period: Duration) -> Self {
        self.0.section("jwks").time("refresh", period);
        self
    }

    /// At least so long between two fetches that unknown key ids cause, 1 s to 1 h. Default 10 s.
    pub fn cooldown(mut self, period: Duration) -> Self {
        self.0.section("jwks").time("cooldown", period);
        self
    }

    /// How long the last good keys serve while the issuer is out of reach, 60 s to 30 days and at least
    /// twice `refresh`. Default 24 h.
    pub fn max_stale(mut self, period: Duration) -> Self {
        self.0.section("jwks").time("max_stale", period);
        self
    }

    /// Asks the realm about opaque and lightweight tokens (RFC 7662). Default: it is never asked.
    pub fn introspection(mut self, introspection: Introspection) -> Self {
        *self.0.section("introspection") = introspection.0;
        self
    }
}

/// How a realm is asked about tokens. It needs one way for our client to prove itself.
#[derive(Clone)]
#[must_use = "give it to Realm::introspection"]
pub struct Introspection(Keys);

impl Introspection {
    /// As this confidential client of the realm.
    pub fn new(client_id: &str) -> Self {
        let mut keys = Keys::default();
        keys.text("client_id", client_id);
        Self(keys)
    }

    /// The client's secret. Rather in a file, which is read again when it changes.
    pub fn client_secret(mut self, secret: &str) -> Self {
        self.0.text("client_secret", secret);
        self
    }

    /// A file with the client's secret.
    pub fn client_secret_file(mut self, path: impl AsRef<Path>) -> Self {
        self.0.path("client_secret_file", path.as_ref());
        self
    }

    /// A variable of the environment with the client's secret.
    pub fn client_secret_env(mut self, name: &str) -> Self {
        self.0.text("client_secret_env", name);
        self
    }

    /// Sends the secret in the form instead of the `Authorization` header.
    pub fn client_secret_post(mut self) -> Self {
        self.0.text("auth", "client_secret_post");
        self
    }

    /// Proves itself by an assertion (RFC 7523) that this key signs (PKCS #8, PEM).
    pub fn private_key_jwt(mut self, key_file: impl AsRef<Path>, algorithm: Algorithm) -> Self {
        self.0.text("auth", "private_key_jwt");
        self.0.path("client_key_file", key_file.as_ref());
        self.0.text("client_key_algorithm", algorithm.name());
        self
    }

    /// Which of our keys signs those assertions, if the realm knows several: their `kid`.
    pub fn client_key_id(mut self, id: &str) -> Self {
        self.0.text("client_key_id", id);
        self
    }

    /// Proves itself by a client certificate (RFC 8705 §2), both files PEM.
    pub fn tls_client_auth(
        mut self,
        certificate_file: impl AsRef<Path>,
        key_file: impl AsRef<Path>,
    ) -> Self {
        self.0.text("auth", "tls_client_auth");
        self.0.path("client_certificate_file", certificate_file.as_ref());
        self.0.path("client_key_file", key_file.as_ref());
        self
    }

    /// Which tokens it is asked about; `all` means the other two too. Default: opaque and lightweight
    /// ones.
    pub fn use_for(mut self, use_for: UseFor) -> Self {
        let UseFor { opaque, lightweight, all } = use_for;
        let kinds = [("opaque", opaque), ("lightweight", lightweight), ("all", all)];
        self.0.list("use_for", kinds.into_iter().filter_map(|(kind, on)| on.then_some(kind)));
        self
    }

    /// How long an answer is used, up to 1 h and never beyond `exp`. Default 30 s.
    pub fn cache_ttl(mut self, time: Duration) -> Self {
        self.0.time("cache_ttl", time);
        self
    }

    /// How long *not active* is used, up to 1 h. Default 5 s.
    pub fn inactive_ttl(mut self, time: Duration) -> Self {
        self.0.time("inactive_ttl", time);
        self
    }

    /// For one question altogether, 100 ms to 5 s. Default 2 s.
    pub fn timeout(mut self, time: Duration) -> Self {
        self.0.time("timeout", time);
        self
    }

    /// So many calls run at once, 1 to 10,000. Default 64.
    pub fn max_concurrent(mut self, calls: usize) -> Self {
        self.0.number("max_concurrent", calls);
        self
    }

    /// Asks for the full JWT beside the answer, whose claims then count. Default: no.
    pub fn prefer_jwt(mut self) -> Self {
        self.0.flag("prefer_jwt");
        self
    }

    /// Where to ask, instead of where the realm's metadata say.
    pub fn endpoint(mut self, url: &str) -> Self {
        self.0.text("endpoint", url);
        self
    }
}
