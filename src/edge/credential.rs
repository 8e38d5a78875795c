//! Exactly one credential (RFC 6750 §2), from the places that are configured, never from the query.

use std::fmt;
use std::str::FromStr;

use http::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderName, HeaderValue};

use crate::check::{Denial, RawToken};

/// A place where a token may stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `Authorization: Bearer TOKEN`, the scheme in any case.
    Authorization,
    /// A cookie of this name.
    Cookie(String),
    /// A header of this name that holds the token alone.
    Header(HeaderName),
}

impl FromStr for Source {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            None if text == "authorization" => Ok(Self::Authorization),
            Some(("cookie", name)) if is_token(name) => Ok(Self::Cookie(name.to_owned())),
            Some(("cookie", _)) => Err("\"cookie:NAME\" with the name of a cookie"),
            Some(("header", name)) => match name.parse::<HeaderName>() {
                Ok(name) if name == AUTHORIZATION || name == COOKIE => {
                    Err("\"authorization\" or \"cookie:NAME\"")
                }
                Ok(name) => Ok(Self::Header(name)),
                Err(_) => Err("\"header:NAME\" with the name of a header"),
            },
            _ => Err("\"authorization\", \"cookie:NAME\" or \"header:NAME\""),
        }
    }
}

/// RFC 9110 §5.6.2, which RFC 6265 §4.1.1 wants of a cookie's name.
fn is_token(name: &str) -> bool {
    let sign = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(sign)
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authorization => write!(f, "authorization"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Header(name) => write!(f, "header:{name}"),
        }
    }
}

/// Finds the one credential of a request.
///
/// # Errors
/// If there is none, more than one (whichever would win, somebody else's reader may choose the
/// other), or one that is no token.
pub fn find<'a>(headers: &'a HeaderMap, sources: &[Source]) -> Result<RawToken<'a>, Denial> {
    let mut found = Ok(None);
    for source in sources {
        match source {
            Source::Authorization => {
                let mut lines = headers.get_all(AUTHORIZATION).iter();
                match (lines.next(), lines.next()) {
                    (Some(line), None) => add(&mut found, bearer(line)),
                    (None, _) => {}
                    // Two lines of any scheme: whichever would win, somebody else's reader may take the
                    // other.
                    (Some(_), Some(_)) => return Err(Denial::CredentialRepeated),
                }
            }
            Source::Header(name) => {
                headers
                    .get_all(name)
                    .iter()
                    .for_each(|value| add(&mut found, bare(value.as_bytes())));
            }
            Source::Cookie(name) => {
                for value in headers.get_all(COOKIE) {
                    value.as_bytes().split(|byte| *byte == b';').for_each(|pair| {
                        let value = pair.trim_ascii().strip_prefix(name.as_bytes());
                        if let Some(value) = value.and_then(|rest| rest.strip_prefix(b"=")) {
                            add(&mut found, bare(value));
                        }
                    });
                }
            }
        }
    }
    found?.ok_or(Denial::NoCredential)
}

type Found<'a> = Result<Option<RawToken<'a>>, Denial>;

fn add<'a>(found: &mut Found<'a>, next: Found<'a>) {
    *found = match (&*found, next) {
        (Ok(None), next) => next,
        (_, Ok(None)) => return,
        _ => Err(Denial::CredentialRepeated),
    };
}

/// RFC 9110 §11.4. A header without a value, or with another scheme, is no bearer credential.
fn bearer(value: &HeaderValue) -> Found<'_> {
    let value = value.as_bytes().trim_ascii();
    let end = value.iter().position(|byte| *byte == b' ').unwrap_or(value.len());
    let (scheme, token) = value.split_at(end);
    match scheme.eq_ignore_ascii_case(b"Bearer") {
        false => Ok(None),
        true => match bare(token.trim_ascii_start())? {
            None => Err(Denial::CredentialMalformed),
            token => Ok(token),
        },
    }
}

/// A token that stands alone, without its scheme.
///
/// # Errors
/// If there is none, or something that is no token.
pub fn token(text: &str) -> Result<RawToken<'_>, Denial> {
    bare(text.as_bytes())?.ok_or(Denial::NoCredential)
}

/// RFC 9110 §11.2 `token68`: nothing in it can be a separator for anybody.
fn bare(token: &[u8]) -> Found<'_> {
    let body = token.trim_ascii_end();
    let unpadded = body.iter().rposition(|byte| *byte != b'=').map_or(0, |last| last + 1);
    if body.is_empty() {
        return Ok(None);
    }
    // To the end in any case, and no branch for a byte: many are then looked at in one step.
    if unpadded == 0 || !body[..unpadded].iter().fold(true, |all, byte| all & is_token68(*byte)) {
        return Err(Denial::CredentialMalformed);
    }
    Ok(Some(RawToken::of_ascii(body)))
}

/// Letters, digits and `-._~+/`, of which `-./` and the digits stand side by side.
const fn is_token68(byte: u8) -> bool {
    ((byte | 0x20).wrapping_sub(b'a') < 26)
        | (byte.wrapping_sub(b'-') <= b'9' - b'-')
        | (byte == b'_')
        | (byte == b'~')
        | (byte == b'+')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token68_is_what_the_rfc_lists() {
        for byte in 0..=u8::MAX {
            let listed = byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
            assert_eq!(is_token68(byte), listed, "{byte:#x}");
        }
    }

    fn headers(list: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in list {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    fn found(list: &[(&str, &str)], sources: &[&str]) -> Result<usize, Denial> {
        let sources: Vec<Source> = sources.iter().map(|source| source.parse().unwrap()).collect();
        find(&headers(list), &sources).map(RawToken::len)
    }

    #[test]
    fn takes_one_bearer_token_however_the_scheme_is_written() {
        for value in ["Bearer abc", "bearer abc", "BEARER   abc", "Bearer abc "] {
            assert_eq!(found(&[("authorization", value)], &["authorization"]), Ok(3), "{value:?}");
        }
        assert_eq!(found(&[("authorization", "Bearer a-._~+/9==")], &["authorization"]), Ok(10));
    }

    #[test]
    fn refuses_everything_else_and_says_which() {
        use Denial::{CredentialMalformed, CredentialRepeated, NoCredential};
        for (name, list, expected) in [
            ("nothing", &[][..], NoCredential),
            ("empty", &[("authorization", "")], NoCredential),
            ("another scheme", &[("authorization", "Basic YTpi")], NoCredential),
            ("a scheme that begins alike", &[("authorization", "BearerX abc")], NoCredential),
            ("no space", &[("authorization", "Bearer\tabc")], NoCredential),
            ("in the wrong place", &[("x-token", "abc"), ("cookie", "at=abc")], NoCredential),
            ("scheme alone", &[("authorization", "Bearer")], CredentialMalformed),
            ("scheme and spaces", &[("authorization", "Bearer  ")], CredentialMalformed),
            ("two in one", &[("authorization", "Bearer abc, Bearer abc")], CredentialMalformed),
            ("joined by a proxy", &[("authorization", "Bearer abc,def")], CredentialMalformed),
            ("a space inside", &[("authorization", "Bearer abc def")], CredentialMalformed),
            ("quoted", &[("authorization", "Bearer \"abc\"")], CredentialMalformed),
            ("padding inside", &[("authorization", "Bearer a=b")], CredentialMalformed),
            ("padding alone", &[("authorization", "Bearer ==")], CredentialMalformed),
            ("not ASCII", &[("authorization", "Bearer abcé")], CredentialMalformed),
            (
                "twice the same",
                &[("authorization", "Bearer abc"), ("authorization", "Bearer abc")],
                CredentialRepeated,
            ),
            (
                "one of another scheme beside it",
                &[("authorization", "Basic YTpi"), ("authorization", "Bearer abc")],
                CredentialRepeated,
            ),
            (
                "a good and a bad one",
                &[("authorization", "Bearer abc"), ("authorization", "Bearer ,")],
                CredentialRepeated,
            ),
        ] {
            assert_eq!(found(list, &["authorization"]), Err(expected), "{name}");
        }
    }

    #[test]
    fn other_places_count_only_if_configured_and_only_once_together() {
        let all = ["authorization", "cookie:at", "header:x-token"];
        assert_eq!(found(&[("cookie", "a=1; at=abc; b=2")], &all), Ok(3));
        assert_eq!(found(&[("cookie", "xat=abc; at2=x")], &all), Err(Denial::NoCredential));
        assert_eq!(found(&[("cookie", "at=")], &all), Err(Denial::NoCredential));
        assert_eq!(found(&[("x-token", "abc")], &all), Ok(3));
        assert_eq!(found(&[("x-token", "Bearer abc")], &all), Err(Denial::CredentialMalformed));
        for list in [
            &[("cookie", "at=abc; at=abc")][..],
            &[("cookie", "at=abc"), ("cookie", "at=abc")],
            &[("authorization", "Bearer abc"), ("cookie", "at=abc")],
            &[("authorization", "Bearer abc"), ("x-token", "abc")],
        ] {
            assert_eq!(found(list, &all), Err(Denial::CredentialRepeated), "{list:?}");
        }
        let with_session = [("authorization", "Basic YTpi"), ("cookie", "at=abc")];
        assert_eq!(found(&with_session, &all), Ok(3), "another scheme is no second credential");
    }

    #[test]
    fn sources_are_written_as_documented() {
        for text in ["authorization", "cookie:at", "cookie:__Host-a.t_1~!", "header:x-token"] {
            assert_eq!(text.parse::<Source>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "Authorization",
            "cookie",
            "cookie:",
            "cookie:a=b",
            "cookie:a b",
            "cookie:a\nb",
            "cookie:a\u{1b}b",
            "cookie:\"a\"",
            "cookie:a;",
            "cookie:ü",
            "header:a b",
            "header:authorization",
            "header:cookie",
            "query:access_token",
        ] {
            assert!(text.parse::<Source>().is_err(), "{text}");
        }
    }
}
