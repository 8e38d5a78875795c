//! Envoy's `ext_authz` by gRPC: `envoy.service.auth.v3.Authorization/Check`, the messages of
//! `envoy/service/auth/v3/external_auth.proto` and `attribute_context.proto`.
//!
//! The policy is the context extension `policy`, which the route sets (`check_settings`); else `default`.
//! The client's path is never looked at.

use bytes::Bytes;
use http::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderName, HeaderValue};

use super::answer::{self, Refused};
use super::certificate::{Forwarded, is_alias};
use super::credential::{self, Source};
use super::forwarded::Peer;
use super::protobuf::{Fields, Malformed, Message};
use super::{Edge, EdgeSettings};
use crate::check::{Decision, Denial, Facts, Grant, JsonRef};
use crate::gate::Gate;

/// A `CheckRequest`, as far as it is read.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// What all the rest is a part of.
    message: &'a Bytes,
    policy: Option<&'a str>,
    /// `source.certificate`.
    certificate: &'a str,
    method: &'a str,
    path: &'a str,
    /// `header_map` (`encode_raw_headers`).
    raw_headers: Vec<(&'a str, &'a [u8])>,
    headers: Vec<(&'a str, &'a str)>,
}

impl<'a> Question<'a> {
    /// Reads it. What comes twice counts once, the last time, as in any reader of this format; headers
    /// are gathered.
    ///
    /// # Errors
    /// If it is no such message.
    pub fn read(message: &'a Bytes) -> Result<Self, Malformed> {
        let (policy, certificate, method, path) = (None, "", "", "");
        let (raw_headers, headers) = (Vec::new(), Vec::new());
        let mut question =
            Self { message, policy, certificate, method, path, raw_headers, headers };
        for field in Fields(message) {
            if let (1, attributes) = field? {
                question.attributes(attributes.fields()?)?;
            }
        }
        Ok(question)
    }

    fn attributes(&mut self, fields: Fields<'a>) -> Result<(), Malformed> {
        for field in fields {
            match field? {
                (1, source) => {
                    for field in source.fields()? {
                        if let (5, certificate) = field? {
                            self.certificate = certificate.text()?;
                        }
                    }
                }
                (4, request) => {
                    for field in request.fields()? {
                        if let (2, http) = field? {
                            self.http(http.fields()?)?;
                        }
                    }
                }
                (10, extension) => {
                    if let ("policy", policy) = extension.entry()? {
                        self.policy = Some(policy);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn http(&mut self, fields: Fields<'a>) -> Result<(), Malformed> {
        for field in fields {
            match field? {
                (2, method) => self.method = method.text()?,
                (3, header) => self.headers.push(header.entry()?),
                (4, path) => self.path = path.text()?,
                (13, map) => {
                    for field in map.fields()? {
                        if let (1, header) = field? {
                            self.raw_header(header.fields()?)?;
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn raw_header(&mut self, fields: Fields<'a>) -> Result<(), Malformed> {
        let (mut key, mut value, mut raw) = ("", "", &[][..]);
        for field in fields {
            match field? {
                (1, it) => key = it.text()?,
                (2, it) => value = it.text()?,
                (3, it) => raw = it.bytes()?,
                _ => {}
            }
        }
        let value = if raw.is_empty() { value.as_bytes() } else { raw };
        if self.raw_headers.is_empty() {
            self.raw_headers.reserve(24);
        }
        self.raw_headers.push((key, value));
        Ok(())
    }

    /// The headers that somebody here looks at. `None` if one of them can be no header.
    fn headers(&self, settings: &EdgeSettings) -> Option<HeaderMap> {
        let mut found = HeaderMap::with_capacity(LOOKED_AT);
        let mut add = |name: &str, value: &[u8]| {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            found.append(name, HeaderValue::from_maybe_shared(self.message.slice_ref(value)).ok()?);
            Some(())
        };
        let texts = self.headers.iter().map(|(name, value)| (*name, value.as_bytes()));
        let raw = self.raw_headers.iter().copied();
        for (name, value) in raw.chain(texts.filter(|_| self.raw_headers.is_empty())) {
            // Envoy joins two lines of one name with a comma, which no bearer credential can hold.
            if name.eq_ignore_ascii_case(AUTHORIZATION.as_str()) {
                let mut from = 0;
                for comma in memchr::memchr_iter(b',', value) {
                    add(name, &value[from..comma])?;
                    from = comma + 1;
                }
                add(name, &value[from..])?;
            } else if is_looked_at(name, settings) {
                add(name, value)?;
            }
        }
        Some(found)
    }
}

/// A credential and a certificate.
const LOOKED_AT: usize = 2;

fn is_looked_at(name: &str, settings: &EdgeSettings) -> bool {
    let certificate = settings.certificate.as_ref();
    certificate.is_some_and(|header| is_alias(name, &header.name))
        || settings.sources.iter().any(|source| match source {
            Source::Authorization => name.eq_ignore_ascii_case(AUTHORIZATION.as_str()),
            Source::Cookie(_) => name.eq_ignore_ascii_case(COOKIE.as_str()),
            Source::Header(wanted) => name.eq_ignore_ascii_case(wanted.as_str()),
        })
}

/// Judges one request; `told` hears what was said of the certificate.
pub async fn decide(
    gate: &Gate,
    settings: &EdgeSettings,
    question: &Question<'_>,
    peer: Peer,
    told: impl FnOnce(&Decision, &Forwarded<'_>),
) -> Decision {
    let policy = question.policy.unwrap_or("default");
    let headers = question.headers(settings);
    let well_formed = headers.is_some();
    let headers = headers.unwrap_or_default();
    let credential = match well_formed {
        true => credential::find(&headers, &settings.sources),
        false => Err(Denial::CredentialMalformed),
    };
    let certificate =
        Forwarded::new(&headers, peer, settings).with_connection(question.certificate);
    let decision = gate.check(&Facts { policy, credential, certificate: &certificate }).await;
    if tracing::enabled!(tracing::Level::DEBUG) {
        let reason = decision.label();
        let (method, path) = (question.method, question.path.split(['?', '#']).next());
        tracing::debug!(edge = Edge::ExtAuthzGrpc.name(), %peer, ?policy, reason, method, path, "decision");
    }
    told(&decision, &certificate);
    decision
}

/// The `CheckResponse`: OK with the identity headers, which replace the client's, and what to remove; or
/// denied, with the status, headers and body for the client. It is written behind `before`.
pub fn answer(decision: &Decision, before: &[u8]) -> Vec<u8> {
    let mut response = Message(Vec::with_capacity(before.len() + USUAL));
    response.0.extend_from_slice(before);
    match decision {
        Decision::Allow(grant) => allow(grant, &mut response),
        Decision::Deny(refusal) => denied(&answer::refused(refusal), &mut response),
    }
    response.0
}

/// Six identity headers with their usual values.
const USUAL: usize = 960;

fn allow(grant: &Grant, response: &mut Message) {
    response.nested(STATUS, |_| {}); // code 0
    response.nested(OK_RESPONSE, |ok| {
        for (name, value) in grant.identity() {
            match value.is_empty() {
                false => header(ok, name.as_str(), value.as_bytes()),
                true => ok.bytes(HEADERS_TO_REMOVE, name.as_str().as_bytes()),
            }
        }
        for name in answer::aliased(grant.policy()) {
            ok.ascii(HEADERS_TO_REMOVE, name, answer::alias);
        }
    });
    if grant.policy().metadata.is_empty() {
        return;
    }
    response.nested(DYNAMIC_METADATA, |metadata| {
        for (name, value) in grant.metadata() {
            member(metadata, name, value);
        }
    });
}

fn denied(refused: &Refused, response: &mut Message) {
    response.nested(STATUS, |status| status.number(1, grpc_code(refused.status.as_u16())));
    response.nested(DENIED_RESPONSE, |denied| {
        denied.nested(1, |status| status.number(1, refused.status.as_u16().into()));
        for (name, value) in &refused.headers {
            header(denied, name.as_str(), value.as_bytes());
        }
        denied.text(3, &refused.body);
    });
}

// `CheckResponse`, and `OkHttpResponse` and `DeniedHttpResponse` inside it.
const STATUS: u32 = 1;
const DENIED_RESPONSE: u32 = 2;
const OK_RESPONSE: u32 = 3;
const DYNAMIC_METADATA: u32 = 4;
const HEADERS: u32 = 2;
const HEADERS_TO_REMOVE: u32 = 5;

/// `HeaderValueOption`.
fn header(into: &mut Message, name: &str, value: &[u8]) {
    const OVERWRITE_IF_EXISTS_OR_ADD: u64 = 2;
    into.nested(HEADERS, |option| {
        option.nested(1, |header| {
            header.text(1, name);
            header.bytes(2, value);
        });
        option.number(3, OVERWRITE_IF_EXISTS_OR_ADD);
    });
}

/// `google.rpc.Code`. Envoy looks only at whether it is 0; others may look closer.
fn grpc_code(status: u16) -> u64 {
    match status {
        400 => 3,  // INVALID_ARGUMENT
        401 => 16, // UNAUTHENTICATED
        503 => 14, // UNAVAILABLE
        _ => 7,    // PERMISSION_DENIED
    }
}

/// `grpc.health.v1.Health/Check`: whether there is any use in asking.
pub mod health {
    use super::{Fields, Malformed, Message};

    /// Which service a `HealthCheckRequest` is about; all of them if it names none.
    ///
    /// # Errors
    /// If it is no such message.
    pub fn asked(message: &[u8]) -> Result<&str, Malformed> {
        let mut service = "";
        for field in Fields(message) {
            if let (1, name) = field? {
                service = name.text()?;
            }
        }
        Ok(service)
    }

    /// A `HealthCheckResponse`.
    pub fn answer(serving: bool) -> Vec<u8> {
        const SERVING: u64 = 1;
        const NOT_SERVING: u64 = 2;
        let mut answer = Message::default();
        answer.number(1, if serving { SERVING } else { NOT_SERVING });
        answer.0
    }
}

/// A member of a `google.protobuf.Struct`.
fn member(into: &mut Message, name: &str, value: JsonRef<'_>) {
    into.nested(1, |entry| {
        entry.text(1, name);
        entry.nested(2, |it| json(it, value));
    });
}

/// A `google.protobuf.Value`.
fn json(into: &mut Message, value: JsonRef<'_>) {
    if let Some(text) = value.as_str() {
        into.text(3, text);
    } else if let Some(flag) = value.as_bool() {
        into.chosen(4, flag.into());
    } else if let Some(number) = value.as_f64() {
        into.double(2, number);
    } else if let Some(items) = value.items() {
        into.nested(6, |list| items.for_each(|item| list.nested(1, |it| json(it, item))));
    } else if let Some(members) = value.members() {
        into.nested(5, |object| members.for_each(|(name, value)| member(object, name, value)));
    } else {
        into.chosen(1, 0); // null
    }
}

#[cfg(test)]
mod tests;
