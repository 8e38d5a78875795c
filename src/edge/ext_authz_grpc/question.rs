//! `CheckRequest`, as far as it is read.

use bytes::Bytes;
use http::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderName, HeaderValue};

use crate::edge::EdgeSettings;
use crate::edge::certificate::{Provider, is_alias};
use crate::edge::credential::Source;
use crate::edge::forwarded::{Original, Peer};
use crate::edge::protobuf::{Fields, Malformed};

/// The question.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// What all the rest is a part of.
    message: &'a Bytes,
    pub(super) policy: Option<&'a str>,
    /// `source.certificate`.
    pub(super) certificate: &'a str,
    /// For the log alone, so that they may be anything.
    pub(super) method: &'a [u8],
    pub(super) path: &'a [u8],
    /// `header_map` (`encode_raw_headers`).
    pub(super) raw_headers: Vec<(&'a str, &'a [u8])>,
    pub(super) headers: Vec<(&'a str, &'a str)>,
}

impl<'a> Question<'a> {
    /// Reads it. What comes twice counts once, the last time, as in any reader of this format; headers
    /// are gathered.
    ///
    /// # Errors
    /// If it is no such message.
    pub fn read(message: &'a Bytes) -> Result<Self, Malformed> {
        let (policy, certificate) = (None, "");
        let (method, path) = (&[][..], &[][..]);
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
                (2, method) => self.method = method.bytes()?,
                (3, header) => self.headers.push(header.entry()?),
                (4, path) => self.path = path.bytes()?,
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

    /// The client's request, for the log, if this peer may speak for a client.
    pub(super) fn original(&self, peer: Peer, settings: &EdgeSettings) -> Original<'a> {
        match settings.trusted.contains(peer) {
            true => Original {
                method: str::from_utf8(self.method).ok(),
                path: str::from_utf8(self.path).ok().and_then(|path| path.split(['?', '#']).next()),
            },
            false => Original::default(),
        }
    }

    /// The client's headers: those of `header_map` if there are any, else those of `headers`.
    fn all(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        let texts = self.headers.iter().map(|(name, value)| (*name, value.as_bytes()));
        let texts = texts.filter(|_| self.raw_headers.is_empty());
        self.raw_headers.iter().copied().chain(texts)
    }

    /// Their names.
    pub(super) fn names(&self) -> impl Iterator<Item = &'a str> {
        self.all().map(|(name, _)| name)
    }

    /// The headers that somebody here looks at. `None` if one of them can be no header.
    pub(super) fn headers(&self, settings: &EdgeSettings) -> Option<HeaderMap> {
        let mut found = HeaderMap::with_capacity(LOOKED_AT);
        let mut add = |name: &str, value: &[u8]| {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            found.append(name, HeaderValue::from_maybe_shared(self.message.slice_ref(value)).ok()?);
            Some(())
        };
        for (name, value) in self.all() {
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

/// Of certificates only Envoy's own header is: any other one would be the client's, which Envoy hands on
/// as it came.
pub(super) fn is_looked_at(name: &str, settings: &EdgeSettings) -> bool {
    let certificate = settings.certificate.as_ref();
    let certificate = certificate.filter(|header| header.provider == Provider::Envoy);
    certificate.is_some_and(|header| is_alias(name, &header.name))
        || settings.sources.iter().any(|source| match source {
            Source::Authorization => name.eq_ignore_ascii_case(AUTHORIZATION.as_str()),
            Source::Cookie(_) => name.eq_ignore_ascii_case(COOKIE.as_str()),
            Source::Header(wanted) => name.eq_ignore_ascii_case(wanted.as_str()),
        })
}
