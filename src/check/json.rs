//! JSON read strictly: what a signature covers must mean one thing to everybody.
//!
//! RFC 7515 §4 and RFC 7519 §4 let a reader choose between refusing a repeated member and taking the
//! last one. Two readers that choose differently see two different tokens, so a repeated member is
//! refused here, at every level. Depth and number of values are bounded before anything is built.

use std::cell::Cell;
use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Bounds of one JSON document.
#[derive(Clone, Copy, Debug)]
pub struct JsonLimits {
    /// Objects and arrays inside one another; the document itself is the first.
    pub depth: u8,
    /// Members and elements together, in the whole document.
    pub values: u32,
}

impl JsonLimits {
    /// For tokens: a Keycloak token is 4 deep; 4,096 values fill 16 KiB with three-letter roles.
    pub const TOKEN: Self = Self { depth: 16, values: 4_096 };
    /// For what an issuer publishes (JWKS, discovery), at most 1 MiB of it.
    pub const ISSUER: Self = Self { depth: 16, values: 65_536 };
}

/// Why a document was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JsonError {
    /// Nested deeper than [`JsonLimits::depth`].
    Depth,
    /// An object holds a member twice.
    Duplicate,
    /// More members and elements than [`JsonLimits::values`].
    Size,
    /// Not JSON (RFC 8259), or something follows it. Counted from 1; 0 when it ends too early.
    Syntax {
        /// Line.
        line: usize,
        /// Column, in bytes.
        column: usize,
    },
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Depth => write!(f, "the JSON is nested too deeply"),
            Self::Duplicate => write!(f, "a JSON object holds a member twice"),
            Self::Size => write!(f, "the JSON holds too many values"),
            Self::Syntax { line, column } => {
                write!(f, "not JSON at line {line}, column {column}")
            }
        }
    }
}

impl std::error::Error for JsonError {}

/// Reads one whole document.
///
/// # Errors
/// See [`JsonError`]. Never panics, whatever the bytes.
pub fn parse_json(text: &[u8], limits: JsonLimits) -> Result<Value, JsonError> {
    let state = State { left: Cell::new(limits.values), broken: Cell::new(None) };
    let mut reader = serde_json::Deserializer::from_slice(text);
    Strict { state: &state, depth: limits.depth }
        .deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value))
        .map_err(|error| {
            let syntax = JsonError::Syntax { line: error.line(), column: error.column() };
            state.broken.get().unwrap_or(syntax)
        })
}

struct State {
    left: Cell<u32>,
    /// serde's errors are opaque: the reason is left here.
    broken: Cell<Option<JsonError>>,
}

#[derive(Clone, Copy)]
struct Strict<'a> {
    state: &'a State,
    depth: u8,
}

impl Strict<'_> {
    fn refuse<E: serde::de::Error>(&self, reason: JsonError) -> E {
        self.state.broken.set(Some(reason));
        E::custom("refused")
    }

    fn inside<E: serde::de::Error>(self) -> Result<Self, E> {
        let depth = self.depth.checked_sub(1).ok_or_else(|| self.refuse(JsonError::Depth))?;
        Ok(Self { depth, ..self })
    }

    fn count<E: serde::de::Error>(&self) -> Result<(), E> {
        let left = self.state.left.get().checked_sub(1);
        self.state.left.set(left.ok_or_else(|| self.refuse(JsonError::Size))?);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let inner = self.inside()?;
        let mut list = Vec::new();
        while let Some(element) = elements.next_element_seed(inner)? {
            self.count()?;
            list.push(element);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inner = self.inside()?;
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            self.count()?;
            if object.contains_key(&name) {
                return Err(self.refuse(JsonError::Duplicate));
            }
            let value = members.next_value_seed(inner)?;
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Value, JsonError> {
        parse_json(text.as_bytes(), JsonLimits::TOKEN)
    }

    #[test]
    fn reads_what_serde_json_reads() {
        for text in
            [r#"{"a":[1,-2,3.5,true,null,"x\u0000\ud83d\ude00"],"b":{"c":{}}}"#, "[]", " 1 "]
        {
            assert_eq!(parse(text), Ok(serde_json::from_str(text).unwrap()), "{text}");
        }
    }

    #[test]
    fn refuses_a_repeated_member_at_any_level_however_it_is_spelt() {
        for text in [r#"{"a":1,"a":1}"#, r#"{"o":{"a":1,"b":2,"a":3}}"#, r#"[{"a":1,"\u0061":2}]"#]
        {
            assert_eq!(parse(text), Err(JsonError::Duplicate), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_too_deep_or_too_much_before_building_it() {
        let nested = |n: usize| "[".repeat(n) + &"]".repeat(n);
        assert!(parse(&nested(16)).is_ok());
        assert_eq!(parse(&nested(17)), Err(JsonError::Depth));
        assert_eq!(parse(&"[".repeat(100_000)), Err(JsonError::Depth));
        let list = |n: usize| format!("[{}0]", "0,".repeat(n - 1));
        assert!(parse(&list(4_096)).is_ok());
        assert_eq!(parse(&list(4_097)), Err(JsonError::Size));
    }

    #[test]
    fn refuses_what_is_not_one_json_document() {
        for text in [
            "",
            "{",
            "{}x",
            "{} {}",
            "{'a':1}",
            "{\"a\":1e999}",
            "\"\\ud800\"",
            "NaN",
            "{\"a\":01}",
        ] {
            assert!(matches!(parse(text), Err(JsonError::Syntax { .. })), "{text}");
        }
        assert!(parse_json(b"\"\xff\"", JsonLimits::TOKEN).is_err(), "not UTF-8");
    }
}
