//! From the bytes a client sent to the three parts of a JWS (RFC 7515 §7.1), with hard limits.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use memchr::memchr_iter;
#[cfg(feature = "gate")]
use memchr::memrchr;
use ring::digest;

use super::json::{Json, JsonLimits};
use super::{Algorithm, Denial};

/// An access token as it came, not verified. It cannot be printed.
///
/// ```
/// let token = vidimus::check::RawToken::new("eyJhbGciOi…");
/// assert_eq!(format!("{token:?}"), "RawToken(..)");
/// ```
#[derive(Clone, Copy)]
pub struct RawToken<'a>(&'a [u8]);

impl<'a> RawToken<'a> {
    /// Wraps the credential, without its scheme.
    pub fn new(token: &'a str) -> Self {
        Self(token.as_bytes())
    }

    /// The same, of bytes that have been found to be ASCII: to look again whether they are text takes longer
    /// than to find the token in the cache.
    #[cfg(feature = "config")]
    pub(crate) fn of_ascii(token: &'a [u8]) -> Self {
        debug_assert!(token.is_ascii());
        Self(token)
    }

    /// What tells it from every other token, and cannot be used as one.
    pub fn digest(self) -> TokenDigest {
        TokenDigest::of(self.0)
    }

    /// The same for a token whose signature is good, with less to digest.
    #[cfg(feature = "gate")]
    pub(crate) fn key(self) -> TokenKey<'a> {
        let (signed, signature) = self.0.split_at(memrchr(b'.', self.0).map_or(0, |dot| dot + 1));
        TokenKey { signed, signature: TokenDigest::of(signature) }
    }

    /// The text itself, to send it to its issuer. Never for logs, metrics or answers.
    pub fn expose(self) -> &'a str {
        str::from_utf8(self.0).unwrap_or_default() // it is text
    }

    /// Whether it has the shape of a JWS.
    pub fn is_jws(self) -> bool {
        memchr_iter(b'.', self.0).count() == 2
    }

    /// A copy that outlives the request.
    pub fn to_owned(self) -> OwnedToken {
        OwnedToken(self.expose().into())
    }

    /// In bytes.
    #[expect(clippy::len_without_is_empty, reason = "a credential is never empty")]
    pub fn len(self) -> usize {
        self.0.len()
    }
}

impl fmt::Debug for RawToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawToken(..)")
    }
}

/// A token that outlives its request: while its issuer is asked about it, or because a policy hands it
/// on. It cannot be printed either.
#[derive(Clone, PartialEq, Eq)]
pub struct OwnedToken(Arc<str>);

impl OwnedToken {
    /// As it came.
    pub fn as_raw(&self) -> RawToken<'_> {
        RawToken::new(&self.0)
    }
}

impl fmt::Debug for OwnedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnedToken(..)")
    }
}

/// SHA-256 of a token, or of its signature: what caches know it by.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    fn of(text: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, text).as_ref());
        Self(bytes)
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenDigest(..)")
    }
}

/// A JWS up to its last dot, as it came, and its signature as SHA-256: two tokens with one key are one
/// token, and the key cannot be used as one. What is no JWS may have its secret elsewhere: see
/// [`RawToken::digest`].
#[cfg(feature = "gate")]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct TokenKey<'a> {
    pub(crate) signed: &'a [u8],
    pub(crate) signature: TokenDigest,
}

/// How large a token may be. What exceeds it is refused before anything is decoded.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The whole token in bytes. Default 16 KiB: twice nginx's default header line.
    pub token: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { token: 16 * 1024 }
    }
}

/// The JOSE header in bytes, decoded. Keycloak's has about 100.
const MAX_HEADER: usize = 4 * 1024;

/// The members of a JOSE header that are looked at (RFC 7515 §4). `jku`, `jwk`, `x5u` and `x5c` name
/// keys that the sender chose: they are never read.
pub(super) struct JoseHeader {
    pub(super) algorithm: Algorithm,
    json: Json,
    key_id: Option<u32>,
    kind: Option<u32>,
}

/// A token taken apart, its signature not yet checked.
pub(super) struct Jws<'a> {
    pub(super) header: JoseHeader,
    pub(super) payload: Vec<u8>,
    pub(super) signature: Vec<u8>,
    /// What the signature covers: header and payload as sent.
    pub(super) signed: &'a [u8],
}

impl<'a> Jws<'a> {
    pub(super) fn parse(token: RawToken<'a>, limits: Limits) -> Result<Self, Denial> {
        let text = token.0;
        if text.len() > limits.token {
            return Err(Denial::TokenTooLarge);
        }
        // With fewer than two dots it has no signature, and nobody calls it active for what it says. With
        // two it is a JWS, or nothing: Keycloak would call many a mangled copy of a good JWT active.
        let mut dots = memchr_iter(b'.', text);
        let (first, second) = (dots.next(), dots.next());
        let (first, second) = first.zip(second).ok_or(Denial::Opaque)?;
        match dots.count() {
            0 => {}
            2 => return Err(Denial::Encrypted), // a JWE (RFC 7516 §7.1)
            _ => return Err(Denial::TokenMalformed),
        }
        let (signed, signature) = (&text[..second], &text[second + 1..]);
        let (header, payload) = (&signed[..first], &signed[first + 1..]);
        if header.len() > MAX_HEADER * 4 / 3 + 1 {
            return Err(Denial::TokenMalformed);
        }
        Ok(Self {
            header: JoseHeader::read(object(decode(header)?)?)?,
            payload: decode(payload)?,
            signature: decode(signature)?,
            signed,
        })
    }
}

impl JoseHeader {
    fn read(json: Json) -> Result<Self, Denial> {
        let (mut algorithm, mut key_id, mut kind) = (None, None, None);
        for (name, value) in json.root().members().ok_or(Denial::TokenMalformed)? {
            let text = value.as_str();
            match name {
                "alg" => algorithm = Some(text.ok_or(Denial::TokenMalformed)?),
                "kid" => key_id = Some(text.map(|_| value.place()).ok_or(Denial::TokenMalformed)?),
                "typ" => kind = Some(text.map(|_| value.place()).ok_or(Denial::TokenMalformed)?),
                // RFC 7797: an unencoded payload is another signing input, announced by `crit`.
                "crit" | "b64" => return Err(Denial::CriticalHeader),
                _ => {}
            }
        }
        let algorithm = algorithm.ok_or(Denial::TokenMalformed)?;
        let algorithm = algorithm.parse().map_err(|()| Denial::AlgorithmForbidden)?;
        Ok(Self { algorithm, key_id, kind, json })
    }

    /// `kid`.
    pub(super) fn key_id(&self) -> Option<&str> {
        self.key_id.and_then(|place| self.json.at(place).as_str())
    }

    /// `typ`.
    pub(super) fn kind(&self) -> Option<&str> {
        self.kind.and_then(|place| self.json.at(place).as_str())
    }
}

/// Base64url without padding; every other spelling of the same bytes is refused (RFC 7515 §2), so
/// that one token has one form.
fn decode(part: &[u8]) -> Result<Vec<u8>, Denial> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Denial::TokenMalformed)
}

/// Header and payload are both JSON objects.
pub(super) fn object(json: Vec<u8>) -> Result<Json, Denial> {
    let json = Json::parse(json, JsonLimits::TOKEN).map_err(|_| Denial::TokenMalformed)?;
    json.root().members().map(drop).ok_or(Denial::TokenMalformed)?;
    Ok(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str, payload: &str) -> String {
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.{}", encode(header), encode(payload), encode("signature"))
    }

    fn denial(token: &str) -> Option<Denial> {
        let jws = Jws::parse(RawToken::new(token), Limits::default());
        jws.and_then(|jws| object(jws.payload)).err()
    }

    #[test]
    fn splits_a_token_and_remembers_what_was_signed() {
        let text = token(r#"{"alg":"RS256","kid":"k","typ":"JWT"}"#, r#"{"a":1}"#);
        let jws = Jws::parse(RawToken::new(&text), Limits::default()).ok().unwrap();
        assert_eq!(jws.header.algorithm, Algorithm::RS256);
        assert_eq!(jws.header.key_id(), Some("k"));
        assert_eq!(jws.signature, b"signature");
        assert_eq!(jws.signed, text.rsplit_once('.').unwrap().0.as_bytes());
    }

    #[cfg(feature = "gate")]
    #[test]
    fn a_key_is_the_whole_token_and_shows_no_signature() {
        for text in ["a.b.c", "a.b.", ".", "..", "abc", "", "a.b", ".abc"] {
            let key = RawToken::new(text).key();
            let rest = text.as_bytes().strip_prefix(key.signed).unwrap();
            assert!(key.signature == TokenDigest::of(rest) && !rest.contains(&b'.'), "{text}");
            assert!(key.signed.is_empty() || key.signed.ends_with(b"."), "{text}");
        }
    }

    #[test]
    fn says_why_it_refuses_a_shape() {
        let good = token(r#"{"alg":"RS256"}"#, "{}");
        let parts: Vec<&str> = good.split('.').collect();
        let large = format!("{}.e30.e30", "A".repeat(20_000));
        let deep =
            token(&format!(r#"{{"alg":"RS256","x":{}{}}}"#, "[".repeat(20), "]".repeat(20)), "{}");
        let long_header = token(&format!(r#"{{"alg":"RS256","x":"{}"}}"#, "a".repeat(4_096)), "{}");
        for (name, text, expected) in [
            ("no dot", "opaque-token".to_owned(), Denial::Opaque),
            ("one dot", format!("{}.{}", parts[0], parts[1]), Denial::Opaque),
            ("three dots, the last part empty", format!("{good}."), Denial::TokenMalformed),
            ("four parts", format!("{good}.e30"), Denial::TokenMalformed),
            ("five parts", format!("{good}.e30.e30"), Denial::Encrypted),
            ("empty parts", "..".to_owned(), Denial::TokenMalformed),
            ("padding", format!("{good}="), Denial::TokenMalformed),
            ("standard alphabet", good.replace('_', "/") + "/+", Denial::TokenMalformed),
            ("stray bits", format!("{}.{}.QR", parts[0], parts[1]), Denial::TokenMalformed),
            ("a space", format!(" {good}"), Denial::TokenMalformed),
            ("too large", large, Denial::TokenTooLarge),
            ("deep header", deep, Denial::TokenMalformed),
            ("header over 4 KiB", long_header, Denial::TokenMalformed),
            ("header is a list", token("[]", "{}"), Denial::TokenMalformed),
            ("payload is text", token(r#"{"alg":"RS256"}"#, r#""x""#), Denial::TokenMalformed),
            ("alg missing", token("{}", "{}"), Denial::TokenMalformed),
            ("alg a number", token(r#"{"alg":256}"#, "{}"), Denial::TokenMalformed),
            ("kid a number", token(r#"{"alg":"RS256","kid":1}"#, "{}"), Denial::TokenMalformed),
            ("alg twice", token(r#"{"alg":"RS256","alg":"RS256"}"#, "{}"), Denial::TokenMalformed),
            (
                "exp twice",
                token(r#"{"alg":"RS256"}"#, r#"{"exp":1,"exp":2}"#),
                Denial::TokenMalformed,
            ),
            ("none", token(r#"{"alg":"none"}"#, "{}"), Denial::AlgorithmForbidden),
            ("None", token(r#"{"alg":"None"}"#, "{}"), Denial::AlgorithmForbidden),
            ("HS256", token(r#"{"alg":"HS256"}"#, "{}"), Denial::AlgorithmForbidden),
            ("lower case", token(r#"{"alg":"rs256"}"#, "{}"), Denial::AlgorithmForbidden),
            ("crit", token(r#"{"alg":"RS256","crit":["exp"]}"#, "{}"), Denial::CriticalHeader),
            ("crit, empty", token(r#"{"alg":"RS256","crit":[]}"#, "{}"), Denial::CriticalHeader),
            ("b64", token(r#"{"alg":"RS256","b64":false}"#, "{}"), Denial::CriticalHeader),
        ] {
            assert_eq!(denial(&text), Some(expected), "{name}");
        }
    }

    #[test]
    fn neither_the_token_nor_its_digest_can_be_printed() {
        let token = RawToken::new("secret.secret.secret");
        assert!(!format!("{token:?} {:?}", token.digest()).contains("secret"));
    }
}
