//! What was given for a token, read as the sidecar reads a credential.

use crate::check::{Denial, RawToken};
use crate::edge::credential::token;

/// The token, or what stands there instead.
pub(super) fn given(text: &str) -> Result<RawToken<'_>, (Denial, &'static str)> {
    let text = text.trim();
    let instead = match text.as_bytes() {
        [] => "nothing was given; standard input was empty",
        [b'{', ..] => "a JSON object; is it the error answer of the token endpoint?",
        [b'"' | b'\'', ..] | [.., b'"' | b'\''] => "there are quotes around it",
        _ => "it holds characters that no token has (RFC 6750 §2.1)",
    };
    match token(text) {
        Ok(token) => Ok(token),
        Err(denial) => Err((denial, instead)),
    }
}

/// What an opaque token looks like that is none.
pub(super) fn doubt(text: &str) -> &'static str {
    match text {
        "null" => " (jq prints this for a member that is not there)",
        _ if text.starts_with("eyJ") => " (it begins like a JWT: was it cut off?)",
        _ => "",
    }
}
