//! Introspection (RFC 7662) as Keycloak 26.7 does it, and signed answers (RFC 9701) on request.

use std::sync::atomic::Ordering;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::form::is_lightweight;
use super::issuer::Fault;
use super::key::KeyError;
use super::pages::{Fields, Shared, error_page, fields, json_page, page};
use super::store::{Memory, payload};
use crate::gate::{Clock as _, SystemClock};

/// The one client that may introspect, and its secret.
pub const INTROSPECTOR: (&str, &str) = ("vidimus", "demo-secret");

/// A client without a secret, which may not.
const PUBLIC: &str = "demo-public";

/// A signed answer (RFC 9701 §5): its header type, and its media type.
const SIGNED: (&str, &str) = ("token-introspection+jwt", "application/token-introspection+jwt");

/// How it behaves, for tests.
#[derive(Clone)]
pub(super) struct Switches {
    pub(super) client: (String, String),
    pub(super) audience_rule: bool,
    pub(super) jwt_claim: bool,
    pub(super) signed_answers: bool,
    pub(super) fault: Option<Fault>,
    pub(super) answer: Option<(u16, &'static str, Bytes)>,
    pub(super) delay: Duration,
}

impl Default for Switches {
    fn default() -> Self {
        Self {
            client: (INTROSPECTOR.0.to_owned(), INTROSPECTOR.1.to_owned()),
            audience_rule: true,
            jwt_claim: false,
            signed_answers: false,
            fault: None,
            answer: None,
            delay: Duration::ZERO,
        }
    }
}

/// Status, `error` and `error_description`.
struct Refused(u16, &'static str, &'static str);

impl From<KeyError> for Refused {
    fn from(_: KeyError) -> Self {
        Self(500, "server_error", "cannot sign")
    }
}

impl Shared {
    pub(super) async fn introspect(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        self.introspected.fetch_add(1, Ordering::SeqCst);
        let (head, body) = request.into_parts();
        let form = fields(body).await;
        let switches = self.state().introspection.clone();
        let half = "{\"active\":true,\"exp\":99";
        let answer = if let Some((status, kind, body)) = &switches.answer {
            page(*status, kind, body.clone())
        } else if let Some(fault) = switches.fault
            && let Some(answer) = fault.page(head.uri.path(), half).await
        {
            answer
        } else {
            let answer = self.judged(&head.headers, form, &switches);
            let mut answer = answer.unwrap_or_else(|Refused(status, error, description)| {
                error_page(status, error, description)
            });
            answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            answer
        };
        if !switches.delay.is_zero() {
            tokio::time::sleep(switches.delay).await; // even of nothing it would take a millisecond
        }
        answer
    }

    fn judged(
        &self,
        headers: &HeaderMap,
        form: Option<Fields>,
        switches: &Switches,
    ) -> Result<Response<Full<Bytes>>, Refused> {
        let form = form.ok_or(Refused(400, "invalid_request", "unreadable body"))?;
        // Keycloak takes a body of another type for an empty form.
        let form = if is_form(headers) { form } else { Vec::new() };
        authenticate(headers, &form, &switches.client)?;
        let mut names: Vec<&str> = form.iter().map(|(name, _)| &**name).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(Refused(400, "invalid_request", "duplicated parameter"));
        }
        let token = field(&form, "token");
        let token = token.ok_or(Refused(400, "invalid_request", "Token not provided."))?;
        let claims = match field(&form, "token_type_hint") {
            None | Some("access_token") => self.active(token, switches),
            Some("refresh_token" | "requesting_party_token") => None, // it gives none
            Some(_) => return Err(Refused(400, "invalid_request", "Unsupported token type.")),
        };
        let accept = all(headers, &ACCEPT);
        let mut answer = claims.as_ref().map_or_else(|| json!({ "active": false }), told);
        if let Some(claims) = claims.filter(|_| switches.jwt_claim && accept == "application/jwt") {
            answer["jwt"] = json!(self.signing_key()?.sign(&claims)?);
        }
        if !switches.signed_answers || !accept.contains(SIGNED.1) {
            return Ok(json_page(200, &answer));
        }
        let key = self.signing_key()?;
        let header = json!({ "alg": key.algorithm().name(), "typ": SIGNED.0, "kid": key.kid() });
        let claims = json!({
            "iss": self.issuer, "aud": switches.client.0, "iat": SystemClock.now().as_secs(),
            "token_introspection": answer,
        });
        Ok(page(200, SIGNED.1, key.sign_with_header(&header, &claims)?))
    }

    /// The full claims of a token that is active, and whose audience may know.
    fn active(&self, token: &str, switches: &Switches) -> Option<Value> {
        let own = if token.contains('.') { Some(self.proven(token)?) } else { None };
        let claims = match (self.store.recall(token), own) {
            (Memory::Claims(full), _) => full,
            (Memory::None, Some(own)) if !is_lightweight(&own) => own,
            (Memory::None | Memory::Ended, _) => return None,
        };
        let now = SystemClock.now().as_secs() as f64;
        let in_time = claims["exp"].as_f64().is_none_or(|exp| exp > now)
            && claims["nbf"].as_f64().is_none_or(|nbf| nbf <= now);
        let id = json!(switches.client.0);
        let meant = match &claims["aud"] {
            Value::Array(names) => names.contains(&id),
            name => *name == id,
        };
        (in_time && (meant || !switches.audience_rule)).then_some(claims)
    }

    /// The claims of a JWT that a published key has signed. Like Keycloak it takes any `typ`.
    fn proven(&self, token: &str) -> Option<Value> {
        let (message, signature) = token.rsplit_once('.')?;
        let part = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
        let header: Value = serde_json::from_slice(&part(message.split('.').next()?)?).ok()?;
        let published = self.state().published.clone()?;
        let mut keys = published.with_kid(header["kid"].as_str()?);
        let key = keys.find(|key| header["alg"] == key.algorithm().name())?;
        let proven = key.verify(message.as_bytes(), &part(signature)?);
        payload(token).filter(|claims| proven && claims["iss"] == *self.issuer)
    }
}

/// The claims of an active token, and what introspection adds to them.
fn told(claims: &Value) -> Value {
    let mut answer = claims.as_object().cloned().unwrap_or_default();
    if claims["scope"].as_str().is_some_and(|scope| scope.trim().is_empty()) {
        answer.remove("scope");
    }
    if let Some(name) = claims.get("preferred_username") {
        answer.entry("username").or_insert_with(|| name.clone());
    }
    for (name, claim) in [("client_id", "azp"), ("token_type", "typ")] {
        claims.get(claim).map(|value| answer.insert(name.to_owned(), value.clone()));
    }
    answer.insert("active".to_owned(), json!(true));
    Value::Object(answer)
}

/// HTTP Basic or fields of the form (RFC 6749 §2.3.1).
fn authenticate(
    headers: &HeaderMap,
    form: &Fields,
    client: &(String, String),
) -> Result<(), Refused> {
    let in_form = || {
        let secret = field(form, "client_secret").unwrap_or_default();
        Some((field(form, "client_id")?.to_owned(), secret.to_owned()))
    };
    let given = match headers.get(AUTHORIZATION) {
        Some(value) => basic(value),
        None => in_form(),
    };
    match given {
        Some(given) if given == *client => Ok(()),
        Some((id, _)) if id == PUBLIC => {
            Err(Refused(403, "invalid_request", "Client not allowed."))
        }
        _ => Err(Refused(401, "invalid_client", "Authentication failed.")),
    }
}

/// User and password, each form-urlencoded before they were joined.
fn basic(value: &HeaderValue) -> Option<(String, String)> {
    let (scheme, encoded) = value.to_str().ok()?.split_once(' ')?;
    let decoded = STANDARD.decode(encoded).ok().filter(|_| scheme.eq_ignore_ascii_case("Basic"))?;
    let decoded = String::from_utf8(decoded).ok()?;
    let (id, secret) = decoded.split_once(':')?;
    let plain = |text: &str| {
        let pair = format!("={}", text.replace('&', "%26"));
        let mut pairs = url::form_urlencoded::parse(pair.as_bytes());
        pairs.next().map_or_else(String::new, |(_, text)| text.into_owned())
    };
    Some((plain(id), plain(secret)))
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = all(headers, &CONTENT_TYPE).to_ascii_lowercase();
    kind.split(';').next().is_some_and(|kind| kind.trim() == "application/x-www-form-urlencoded")
}

fn field<'a>(form: &'a Fields, name: &str) -> Option<&'a str> {
    form.iter().find(|(it, _)| it == name).map(|(_, value)| &**value)
}

/// All lines of a header as one.
fn all(headers: &HeaderMap, name: &HeaderName) -> String {
    let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    lines.collect::<Vec<_>>().join(",")
}
