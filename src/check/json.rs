//! JSON read strictly: what a signature covers must mean one thing to everybody.
//!
//! RFC 7515 §4 and RFC 7519 §4 let a reader choose between refusing a repeated member and taking the
//! last one. Two readers that choose differently see two different tokens, so a repeated member is
//! refused here, at every level. Depth and number of values are bounded before anything is built.
//!
//! serde_json does the reading. The document stays as it came, and a list of [`Node`]s points into it:
//! two allocations a token instead of some ninety, and half the memory in the cache.

mod builder;

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed as _};
use serde::ser::{Serialize, SerializeMap as _, SerializeSeq as _, Serializer};

use builder::{Builder, Seed};

/// Bounds of one JSON document.
#[derive(Clone, Copy, Debug)]
pub struct JsonLimits {
    /// Objects and arrays inside one another; the document itself is the first.
    pub depth: u8,
    /// Members and elements together, in the whole document.
    pub values: u32,
}

impl JsonLimits {
    /// For tokens: a Keycloak token is 4 deep; 4,096 values fill 16 KiB with one-letter roles.
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
    /// Not JSON (RFC 8259), or something follows it. Counted from 1; 0 where that is not known.
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
            Self::Syntax { line, column } => write!(f, "not JSON at line {line}, column {column}"),
        }
    }
}

impl std::error::Error for JsonError {}

/// A document. `Debug` does not print it: it may be somebody's claims.
#[derive(Clone)]
pub struct Json {
    text: String,
    /// Texts that the document spells with escapes, as they are meant.
    unescaped: String,
    /// In the order of the document: a container, then what it holds.
    nodes: Vec<Node>,
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Json(..)")
    }
}

#[derive(Clone, Copy, Debug)]
struct Node {
    /// Empty outside objects.
    name: Span,
    kind: Kind,
    /// The first node that is not inside this one.
    end: u32,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Null,
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Text(Span),
    List,
    Object,
}

/// A piece of `text`, or with [`UNESCAPED`] in `start`, of `unescaped`.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    start: u32,
    len: u32,
}

const UNESCAPED: u32 = 1 << 31;

impl Json {
    /// Reads one whole document of less than 2 GiB.
    ///
    /// # Errors
    /// See [`JsonError`]. Never panics, whatever the bytes.
    pub fn parse(bytes: Vec<u8>, limits: JsonLimits) -> Result<Self, JsonError> {
        const NOWHERE: JsonError = JsonError::Syntax { line: 0, column: 0 };
        let text = String::from_utf8(bytes).map_err(|_| NOWHERE)?;
        if text.len() >= UNESCAPED as usize {
            return Err(JsonError::Size);
        }
        let mut builder = Builder {
            text: &text,
            unescaped: String::new(),
            nodes: Vec::with_capacity(text.len() / 20 + 4), // of Keycloak's, one in 23 bytes
            left: limits.values,
            broken: None,
        };
        let mut reader = serde_json::Deserializer::from_str(&text);
        let seed = Seed { builder: &mut builder, depth: limits.depth, name: Span::default() };
        let read = seed.deserialize(&mut reader).and_then(|()| reader.end());
        let Builder { unescaped, nodes, broken, .. } = builder;
        match read {
            Ok(()) => Ok(Self { text, unescaped, nodes }),
            Err(error) => {
                let syntax = JsonError::Syntax { line: error.line(), column: error.column() };
                Err(broken.unwrap_or(syntax))
            }
        }
    }

    /// The document's one value.
    pub fn root(&self) -> JsonRef<'_> {
        self.at(0)
    }

    /// The value that [`JsonRef::place`] told.
    pub(super) fn at(&self, place: u32) -> JsonRef<'_> {
        JsonRef { json: self, place }
    }

    /// The whole document as another type.
    pub(super) fn read_as<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.text) // which has been found strict
    }

    /// About how many bytes of memory it takes.
    pub fn memory(&self) -> usize {
        self.text.capacity()
            + self.unescaped.capacity()
            + self.nodes.capacity() * size_of::<Node>()
            + size_of::<Self>()
    }

    fn slice(&self, span: Span) -> &str {
        slice(&self.text, &self.unescaped, span)
    }
}

/// A value inside a document.
#[derive(Clone, Copy)]
pub struct JsonRef<'a> {
    json: &'a Json,
    place: u32,
}

impl<'a> JsonRef<'a> {
    fn node(self) -> Node {
        self.json.nodes[self.place as usize]
    }

    pub(super) fn place(self) -> u32 {
        self.place
    }

    /// If it is text.
    pub fn as_str(self) -> Option<&'a str> {
        match self.node().kind {
            Kind::Text(span) => Some(self.json.slice(span)),
            _ => None,
        }
    }

    /// If it is `true` or `false`.
    pub fn as_bool(self) -> Option<bool> {
        match self.node().kind {
            Kind::Bool(flag) => Some(flag),
            _ => None,
        }
    }

    /// If it is a number that an `i64` holds.
    pub fn as_i64(self) -> Option<i64> {
        match self.node().kind {
            Kind::Signed(number) => Some(number),
            Kind::Unsigned(number) => number.try_into().ok(),
            _ => None,
        }
    }

    /// If it is a number.
    pub fn as_f64(self) -> Option<f64> {
        match self.node().kind {
            Kind::Signed(number) => Some(number as f64),
            Kind::Unsigned(number) => Some(number as f64),
            Kind::Float(number) => Some(number),
            _ => None,
        }
    }

    /// Whether it is `null`.
    pub fn is_null(self) -> bool {
        matches!(self.node().kind, Kind::Null)
    }

    /// Its elements, if it is an array.
    pub fn items(self) -> Option<impl Iterator<Item = JsonRef<'a>>> {
        matches!(self.node().kind, Kind::List).then(|| self.children())
    }

    /// Its members, if it is an object.
    pub fn members(self) -> Option<impl Iterator<Item = (&'a str, JsonRef<'a>)>> {
        let named = |child: JsonRef<'a>| (child.json.slice(child.node().name), child);
        matches!(self.node().kind, Kind::Object).then(|| self.children().map(named))
    }

    /// A member by its name, if it is an object that has it.
    pub fn get(self, name: &str) -> Option<JsonRef<'a>> {
        self.members()?.find_map(|(found, value)| (found == name).then_some(value))
    }

    fn children(self) -> impl Iterator<Item = JsonRef<'a>> {
        let end = self.node().end;
        let child = move |place| (place < end).then_some(JsonRef { json: self.json, place });
        std::iter::successors(child(self.place + 1), move |last| child(last.node().end))
    }
}

impl fmt::Display for JsonRef<'_> {
    /// As compact JSON.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

impl Serialize for JsonRef<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.node().kind {
            Kind::Null => serializer.serialize_unit(),
            Kind::Bool(flag) => serializer.serialize_bool(flag),
            Kind::Signed(number) => serializer.serialize_i64(number),
            Kind::Unsigned(number) => serializer.serialize_u64(number),
            Kind::Float(number) => serializer.serialize_f64(number),
            Kind::Text(span) => serializer.serialize_str(self.json.slice(span)),
            Kind::List => {
                let mut list = serializer.serialize_seq(None)?;
                for item in self.children() {
                    list.serialize_element(&item)?;
                }
                list.end()
            }
            Kind::Object => {
                let mut object = serializer.serialize_map(None)?;
                for child in self.children() {
                    object.serialize_entry(self.json.slice(child.node().name), &child)?;
                }
                object.end()
            }
        }
    }
}

fn slice<'a>(text: &'a str, unescaped: &'a str, span: Span) -> &'a str {
    let (source, start) = match span.start & UNESCAPED {
        0 => (text, span.start as usize),
        _ => (unescaped, (span.start & !UNESCAPED) as usize),
    };
    // Spans are made by the builder over these very texts; a wrong one would be empty, not a panic.
    source.get(start..start + span.len as usize).unwrap_or_default()
}

#[cfg(test)]
mod tests;
