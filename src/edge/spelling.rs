//! How certificates and thumbprints are spelt in headers: PEM, perhaps percent-encoded, or base64 of DER.
//!
//! Every bound token's request comes through here, so bytes are found many at a time.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use memchr::{memchr, memchr_iter};

use super::certificate::Shown;
use crate::check::{CertificateError, Thumbprint};

const BAD: CertificateError = CertificateError::Malformed;

/// A whole certificate, in whatever spelling: the spellings cannot be taken for one another.
pub(super) fn certificate(text: &str) -> Result<Shown, CertificateError> {
    let text = text.as_bytes();
    let decoded = memchr(b'%', text).map(|_| percent_decoded(text)).transpose()?;
    let text = decoded.as_deref().unwrap_or(text).trim_ascii();
    let der = if let Some(pem) = text.strip_prefix(BEGIN) {
        // The first block alone: the leaf. Base64 has no dash.
        let (body, rest) = pem.split_at(memchr(b'-', pem).ok_or(BAD)?);
        after_leaf(rest.strip_prefix(END).ok_or(BAD)?)?;
        base64(&one_line(body))?
    } else if let Some(rest) = text.strip_prefix(b":") {
        base64(rest.strip_suffix(b":").ok_or(BAD)?)?
    } else {
        base64(text)?
    };
    if is_one_sequence(&der) { Ok(Shown::of(der)) } else { Err(BAD) }
}

const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
const END: &[u8] = b"-----END CERTIFICATE-----";

/// What may follow the leaf: nothing, or its chain, block after block. A comma is where a proxy has merged
/// two headers, and then the client's own comes first, with whatever end the client gave it.
fn after_leaf(mut rest: &[u8]) -> Result<(), CertificateError> {
    if memchr(b',', rest).is_some() {
        return Err(CertificateError::Repeated);
    }
    loop {
        rest = rest.trim_ascii_start();
        if rest.is_empty() {
            return Ok(());
        }
        let body = rest.strip_prefix(BEGIN).ok_or(BAD)?;
        let (_, end) = body.split_at(memchr(b'-', body).ok_or(BAD)?);
        rest = end.strip_prefix(END).ok_or(BAD)?;
    }
}

/// The leaf of Traefik's list, which joins the chain by `,` alone; who merges two headers adds a space.
///
/// # Errors
/// [`CertificateError::Repeated`]: there is a space; [`CertificateError::Malformed`]: a part is not base64.
pub(super) fn first_of_chain(text: &str) -> Result<&str, CertificateError> {
    if text.bytes().any(|byte| byte.is_ascii_whitespace()) {
        return Err(CertificateError::Repeated);
    }
    let (leaf, chain) = text.split_once(',').unwrap_or((text, ""));
    let good = |part: &str| !part.is_empty() && STANDARD.decode(part).is_ok();
    match chain.is_empty() || chain.split(',').all(good) {
        true if !text.ends_with(',') => Ok(leaf),
        _ => Err(BAD),
    }
}

/// A PEM body without its line breaks, whatever the proxy made of them: the first one tells.
fn one_line(body: &[u8]) -> Vec<u8> {
    let mut line = Vec::with_capacity(body.len());
    let mut from = 0;
    if let Some(line_break) = body.first().filter(|byte| byte.is_ascii_whitespace()) {
        for at in memchr_iter(*line_break, body) {
            line.extend_from_slice(body[from..at].trim_ascii());
            from = at + 1;
        }
    }
    line.extend_from_slice(body[from..].trim_ascii());
    line
}

fn base64(text: &[u8]) -> Result<Vec<u8>, CertificateError> {
    STANDARD.decode(text).map_err(|_| BAD)
}

/// RFC 3986 §2.1, and nothing else: `+` stays what it is, a character of base64.
fn percent_decoded(text: &[u8]) -> Result<Vec<u8>, CertificateError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut from = 0;
    for at in memchr_iter(b'%', text) {
        // A `%` within two digits is none of them: it has ended the one before.
        bytes.extend_from_slice(text.get(from..at).ok_or(BAD)?);
        let [high, low] =
            text.get(at + 1..at + 3).and_then(|pair| pair.try_into().ok()).ok_or(BAD)?;
        bytes.push(hex(high, low).ok_or(BAD)?);
        from = at + 3;
    }
    bytes.extend_from_slice(&text[from..]);
    Ok(bytes)
}

/// A byte of two hex digits, in any case.
fn hex(high: u8, low: u8) -> Option<u8> {
    let digit = |byte| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    };
    Some(digit(high)? << 4 | digit(low)?)
}

/// One DER SEQUENCE (X.690 §8.1) and nothing after it: two certificates in one value, or bytes that
/// follow one, would have another thumbprint than the certificate itself.
fn is_one_sequence(der: &[u8]) -> bool {
    let (length, header) = match der {
        [0x30, short @ 0..=0x7f, ..] => (usize::from(*short), 2),
        [0x30, 0x81, a @ 0x80..=0xff, ..] => (usize::from(*a), 3),
        [0x30, 0x82, a @ 1..=0xff, b, ..] => (usize::from(*a) << 8 | usize::from(*b), 4),
        [0x30, 0x83, a @ 1..=0xff, b, c, ..] => {
            (usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c), 5)
        }
        _ => return false,
    };
    length > 0 && der.len() == header + length
}

/// 64 hex digits in any case, perhaps with colons, or 43 characters of base64url. 40 hex digits are a
/// SHA-1 (nginx' `$ssl_client_fingerprint`): no proof of anything today.
pub(super) fn thumbprint(text: &str) -> Result<Thumbprint, CertificateError> {
    let mut bytes = [0; 32];
    if text.len() == 43 {
        return Thumbprint::parse(text).ok_or(CertificateError::Malformed);
    }
    let mut digits = text.bytes().filter(|byte| *byte != b':');
    for byte in &mut bytes {
        let pair = digits.next().zip(digits.next());
        *byte = pair.and_then(|(a, b)| hex(a, b)).ok_or(CertificateError::Malformed)?;
    }
    match digits.next() {
        None => Ok(Thumbprint::new(bytes)),
        Some(_) => Err(CertificateError::Malformed),
    }
}
