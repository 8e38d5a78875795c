//! Claims as header values that are safe whatever the claim holds.
//!
//! Values are percent-encoded (RFC 3986 §2.1) where a byte is not printable ASCII, is `%`, or is a
//! space at either end: no line break, no control character, nothing a proxy would trim or a service
//! would decode differently. Decoding them gives the claim back, exactly. Lists are joined with `,`,
//! and a `,` inside an element is encoded.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::{Claims, JsonRef};

/// Where a claim stands: `email`, or inside objects as `realm_access.roles`.
///
/// Names may hold dots themselves (`https://example.com/team`): what leads inside goes first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimPath(Box<str>);

impl ClaimPath {
    /// Any text is a path; one that leads nowhere gives an empty value.
    pub fn new(path: &str) -> Self {
        Self(path.into())
    }

    /// The claim as it is, if the token has it.
    pub(super) fn find<'a>(&self, claims: &'a Claims) -> Option<JsonRef<'a>> {
        find(claims.all(), &self.0)
    }

    /// Whether the token has the claim at all.
    pub(super) fn is_in(&self, claims: &Claims) -> bool {
        self.find(claims).is_some()
    }

    /// The value for a header; empty when the claim is missing, `null` or an empty list.
    pub fn value(&self, claims: &Claims) -> String {
        let mut text = String::new();
        self.write(claims, &mut text);
        text
    }

    /// Writes it behind what `out` holds.
    pub(super) fn write(&self, claims: &Claims, out: &mut String) {
        let Some(value) = self.find(claims) else { return };
        match value.items() {
            None => encode(out, &plain(value), false),
            Some(items) => {
                for (position, item) in items.enumerate() {
                    if position > 0 {
                        out.push(',');
                    }
                    encode(out, &plain(item), true);
                }
            }
        }
    }
}

fn find<'a>(object: JsonRef<'a>, path: &str) -> Option<JsonRef<'a>> {
    // Inside first: where the policy looks for roles, the header does too, whatever a claim is called.
    let inside = |(dot, _): (usize, &str)| find(object.get(&path[..dot])?, &path[dot + 1..]);
    path.rmatch_indices('.').find_map(inside).or_else(|| object.get(path))
}

fn plain(value: JsonRef<'_>) -> Cow<'_, str> {
    match value.as_str() {
        Some(text) => text.into(),
        None if value.is_null() => "".into(),
        None => value.to_string().into(),
    }
}

fn encode(out: &mut String, text: &str, in_list: bool) {
    let last = text.len().saturating_sub(1);
    let mut begin = 0; // of what is plain and not written yet: mostly it is all
    for (position, byte) in text.bytes().enumerate() {
        let plain = match byte {
            b'%' => false,
            b',' => !in_list,
            b' ' => position > 0 && position < last,
            _ => byte.is_ascii_graphic(),
        };
        if !plain {
            // Every byte of a letter beyond ASCII is encoded, so this never ends inside of one.
            out.push_str(text.get(begin..position).unwrap_or_default());
            let _ = write!(out, "%{byte:02X}"); // writing to a String cannot fail
            begin = position + 1;
        }
    }
    out.push_str(text.get(begin..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::{Json, JsonLimits};
    use super::*;

    fn value(path: &str, claim: Value) -> String {
        let mut claims = json!({ "iss": "i", "typ": "Bearer", "exp": 1 });
        let top = path.split('.').next().unwrap();
        claims[top] = claim;
        let json = Json::parse(claims.to_string().into_bytes(), JsonLimits::TOKEN).unwrap();
        let claims = Claims::read(json).unwrap();
        ClaimPath::new(path).value(&claims)
    }

    #[test]
    fn gives_each_type_of_claim_a_plain_form() {
        for (claim, expected) in [
            (json!("alice@example.com"), "alice@example.com"),
            (json!("Zoë Müller"), "Zo%C3%AB M%C3%BCller"),
            (json!("a\r\nX-Admin: 1"), "a%0D%0AX-Admin: 1"),
            (json!(" a "), "%20a%20"),
            (json!("100%"), "100%25"),
            (json!("a,b"), "a,b"),
            (json!(["a,b", "c"]), "a%2Cb,c"),
            (json!([]), ""),
            (json!(null), ""),
            (json!(7), "7"),
            (json!(true), "true"),
            (json!({ "a": ["b"] }), r#"{"a":["b"]}"#),
            (json!("\0\u{7f}"), "%00%7F"),
        ] {
            assert_eq!(value("department", claim.clone()), expected, "{claim}");
        }
    }

    #[test]
    fn finds_nested_claims_and_names_with_dots() {
        let roles = json!({ "roles": ["admin", "viewer"] });
        assert_eq!(value("realm_access.roles", roles), "admin,viewer");
        let clients = json!({ "my.api": { "roles": ["viewer"] } });
        assert_eq!(value("resource_access.my.api.roles", clients), "viewer");
        assert_eq!(value("address.country", json!("not an object")), "");
        assert_eq!(value("missing", json!(null)), "");
    }

    proptest! {
        #[test]
        fn any_text_becomes_a_header_value_and_comes_back(text in ".*") {
            let header = value("department", json!(text));
            prop_assert!(header.bytes().all(|b| (0x20..0x7f).contains(&b)));
            prop_assert!(!header.starts_with(' ') && !header.ends_with(' '));
            prop_assert_eq!(decode(&header), text.as_bytes());
        }
    }

    fn decode(header: &str) -> Vec<u8> {
        let mut bytes = header.bytes();
        let mut out = Vec::new();
        while let Some(byte) = bytes.next() {
            let hex = |b: Option<u8>| char::from(b.unwrap()).to_digit(16).unwrap() as u8;
            out.push(if byte == b'%' { hex(bytes.next()) * 16 + hex(bytes.next()) } else { byte });
        }
        out
    }
}
