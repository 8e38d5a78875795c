//! Envoy's `x-forwarded-client-cert`: elements by `,`, pairs by `;`, values perhaps in quotes.
//!
//! There must be one element (`SANITIZE_SET`). Where every proxy on the way adds its own
//! (`APPEND_FORWARD`) the last is the nearest proxy's, and the only one that counts; but Envoy writes
//! `URI` and `DNS` as they stand in the certificate, so that a client with a comma or a quote in its names
//! writes into what the proxy adds.

use std::borrow::Cow;

use memchr::{memchr, memchr2};

use super::certificate::Shown;
use super::spelling::{certificate, thumbprint};
use crate::check::CertificateError;

/// The certificate of the element, or of the last one where `append_forward` is set: by `Hash`, `Cert`,
/// or both if they agree.
///
/// # Errors
/// [`CertificateError::Malformed`]: any element is not well-formed, the last says a thing twice, or
/// `Hash` is not that of `Cert`; [`CertificateError::Repeated`]: there are several elements, and there
/// may be one.
pub(super) fn read(text: &str, append_forward: bool) -> Result<Option<Shown>, CertificateError> {
    let mut rest = text;
    loop {
        let (hash, cert, next) = element(rest)?;
        match next {
            None => return agreed(hash, cert),
            Some(_) if !append_forward => return Err(CertificateError::Repeated),
            Some(next) => rest = next,
        }
    }
}

fn agreed(
    hash: Option<Cow<'_, str>>,
    cert: Option<Cow<'_, str>>,
) -> Result<Option<Shown>, CertificateError> {
    let hash = hash.filter(|hash| !hash.is_empty()).map(|hash| thumbprint(&hash)).transpose()?;
    // Where both are there they must agree: one of them may not be Envoy's.
    let cert = cert.filter(|cert| !cert.is_empty()).map(|cert| certificate(&cert)).transpose()?;
    match (hash, cert) {
        (Some(hash), Some(cert)) if hash != cert.thumbprint => Err(CertificateError::Malformed),
        (hash, cert) => Ok(cert.or_else(|| hash.map(Shown::from))),
    }
}

type Element<'a> = (Option<Cow<'a, str>>, Option<Cow<'a, str>>, Option<&'a str>);

/// `Hash` and `Cert` of the first element, and what follows its comma.
fn element(text: &str) -> Result<Element<'_>, CertificateError> {
    const BAD: CertificateError = CertificateError::Malformed;
    let (mut hash, mut cert) = (None, None);
    let mut rest = text;
    loop {
        let (key, after) = rest.split_at(memchr(b'=', rest.as_bytes()).ok_or(BAD)?);
        let (key, after) = (key.trim_ascii(), &after[1..]);
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(BAD);
        }
        let (value, after) = value(after)?;
        let slot = match key {
            key if key.eq_ignore_ascii_case("hash") => Some(&mut hash),
            key if key.eq_ignore_ascii_case("cert") => Some(&mut cert),
            _ => None,
        };
        if let Some(slot) = slot
            && slot.replace(value).is_some()
        {
            return Err(BAD);
        }
        if after.is_empty() {
            return Ok((hash, cert, None));
        } else if let Some(more) = after.strip_prefix(',') {
            return Ok((hash, cert, Some(more)));
        }
        rest = after.strip_prefix(';').ok_or(BAD)?;
    }
}

/// A value, and what follows it: in quotes with `\"` for a quote, or up to the next `,` or `;`.
fn value(text: &str) -> Result<(Cow<'_, str>, &str), CertificateError> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = memchr2(b',', b';', text.as_bytes()).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return match memchr(b'"', value.as_bytes()) {
            Some(_) => Err(CertificateError::Malformed),
            None => Ok((value.trim_ascii().into(), rest)),
        };
    };
    // Mostly nothing is escaped, and the first quote is the end.
    let end = memchr(b'"', quoted.as_bytes()).ok_or(CertificateError::Malformed)?;
    let (mut value, mut rest) = (&quoted[..end], &quoted[end + 1..]);
    let mut unescaped = None;
    if memchr(b'\\', value.as_bytes()).is_some() {
        let end = end_of_quoted(quoted).ok_or(CertificateError::Malformed)?;
        (value, rest) = (&quoted[..end], &quoted[end + 1..]);
        unescaped = Some(value.replace("\\\"", "\""));
    }
    // Names are escaped (RFC 2253) and certificates percent-encoded, so a `;` is no part of either: a client's
    // open quote has swallowed what the proxy wrote after it.
    if has_bare_semicolon(value) {
        return Err(CertificateError::Malformed);
    }
    Ok((unescaped.map_or_else(|| value.into(), Cow::from), rest))
}

fn end_of_quoted(quoted: &str) -> Option<usize> {
    let mut escaped = false;
    quoted.bytes().position(|byte| {
        let end = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        end
    })
}

fn has_bare_semicolon(value: &str) -> bool {
    if memchr(b';', value.as_bytes()).is_none() {
        return false;
    }
    let mut escaped = false;
    value.bytes().any(|byte| {
        let bare = byte == b';' && !escaped;
        escaped = byte == b'\\' && !escaped;
        bare
    })
}
