//! JSON read strictly: what a signature covers must mean one thing to everybody.
//!
//! RFC 7515 §4 and RFC 7519 §4 let a reader choose between refusing a repeated member and taking the
//! last one. Two readers that choose differently see two different tokens, so a repeated member is
//! refused here, at every level. Depth and number of values are bounded before anything is built.
//!
//! serde_json does the reading. The document stays as it came, and a list of [`Node`]s points into it:
//! two allocations a token instead of some ninety, and half the memory in the cache.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap as _, SerializeSeq as _, Serializer};

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
            nodes: Vec::with_capacity(text.len() / 16 + 4),
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

struct Builder<'t> {
    text: &'t str,
    unescaped: String,
    nodes: Vec<Node>,
    left: u32,
    /// serde's errors are opaque: the reason is left here.
    broken: Option<JsonError>,
}

impl Builder<'_> {
    /// A text that stands in the document as it is meant.
    fn borrowed(&self, piece: &str) -> Span {
        let start = piece.as_ptr() as usize - self.text.as_ptr() as usize;
        Span { start: start as u32, len: piece.len() as u32 } // parse() bounds the text
    }

    /// A text that the document spells with escapes; never longer than its spelling.
    fn owned(&mut self, piece: &str) -> Span {
        let start = self.unescaped.len() as u32 | UNESCAPED;
        self.unescaped.push_str(piece);
        Span { start, len: piece.len() as u32 }
    }

    fn refuse<E: serde::de::Error>(&mut self, reason: JsonError) -> E {
        self.broken = Some(reason);
        E::custom("refused")
    }

    fn push(&mut self, name: Span, kind: Kind) -> usize {
        let place = self.nodes.len();
        self.nodes.push(Node { name, kind, end: place as u32 + 1 });
        place
    }

    /// One more member or element, which may not be the one too many.
    fn count<E: serde::de::Error>(&mut self) -> Result<(), E> {
        match self.left.checked_sub(1) {
            Some(left) => self.left = left,
            None => return Err(self.refuse(JsonError::Size)),
        }
        Ok(())
    }

    fn close(&mut self, place: usize) {
        self.nodes[place].end = self.nodes.len() as u32;
    }

    /// Whether two members of the object at `place`, which has just been closed, have one name.
    fn repeats(&self, place: usize) -> bool {
        let name = |node: &Node| slice(self.text, &self.unescaped, node.name);
        let after = |node: &Node| node.end as usize;
        let end = after(&self.nodes[place]);
        let first = place + 1;
        // Few names share length and first and last letter: of those only, all are compared.
        let (mut seen, mut members, mut at) = (0_u64, 0, first);
        while at < end {
            let own = name(&self.nodes[at]);
            let (head, tail) =
                (own.bytes().next().unwrap_or(0), own.bytes().next_back().unwrap_or(0));
            let bit = 1 << ((own.len() ^ usize::from(head) ^ (usize::from(tail) << 3)) % 64);
            members += 1;
            if members > MANY {
                return self.repeats_among_many(first, end);
            }
            if seen & bit != 0 {
                let mut earlier = first;
                while earlier < at {
                    if name(&self.nodes[earlier]) == own {
                        return true;
                    }
                    earlier = after(&self.nodes[earlier]);
                }
            }
            seen |= bit;
            at = after(&self.nodes[at]);
        }
        false
    }

    /// Sorting keeps a hostile object of thousands of members from costing millions of comparisons.
    fn repeats_among_many(&self, first: usize, end: usize) -> bool {
        let mut names = Vec::new();
        let mut at = first;
        while at < end {
            names.push(slice(self.text, &self.unescaped, self.nodes[at].name));
            at = self.nodes[at].end as usize;
        }
        names.sort_unstable();
        names.windows(2).any(|pair| pair[0] == pair[1])
    }
}

/// Objects of more members than this are sorted to find a repeated one. Tokens have about 25.
const MANY: usize = 48;

struct Seed<'b, 't> {
    builder: &'b mut Builder<'t>,
    depth: u8,
    name: Span,
}

impl Seed<'_, '_> {
    fn leaf<E>(self, kind: Kind) -> Result<(), E> {
        self.builder.push(self.name, kind);
        Ok(())
    }

    /// The depth left inside this container.
    fn inside<E: serde::de::Error>(&mut self) -> Result<u8, E> {
        self.depth.checked_sub(1).ok_or_else(|| self.builder.refuse(JsonError::Depth))
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.leaf(Kind::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<(), E> {
        self.leaf(Kind::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<(), E> {
        self.leaf(Kind::Signed(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        self.leaf(Kind::Unsigned(number))
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<(), E> {
        match number.is_finite() {
            true => self.leaf(Kind::Float(number)),
            false => Err(E::custom("not a finite number")),
        }
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<(), E> {
        let span = self.builder.borrowed(text);
        self.leaf(Kind::Text(span))
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        let span = self.builder.owned(text);
        self.leaf(Kind::Text(span))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        let depth = self.inside()?;
        let Self { builder, name, .. } = self;
        let place = builder.push(name, Kind::List);
        loop {
            let seed = Seed { builder: &mut *builder, depth, name: Span::default() };
            match items.next_element_seed(seed)? {
                Some(()) => builder.count()?,
                None => break,
            }
        }
        builder.close(place);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<(), A::Error> {
        let depth = self.inside()?;
        let Self { builder, name, .. } = self;
        let place = builder.push(name, Kind::Object);
        while let Some(name) = members.next_key_seed(Name(&mut *builder))? {
            builder.count()?;
            members.next_value_seed(Seed { builder: &mut *builder, depth, name })?;
        }
        builder.close(place);
        match builder.repeats(place) {
            true => Err(builder.refuse(JsonError::Duplicate)),
            false => Ok(()),
        }
    }
}

/// Reads the name of a member.
struct Name<'b, 't>(&'b mut Builder<'t>);

impl<'de> DeserializeSeed<'de> for Name<'_, '_> {
    type Value = Span;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Span, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name<'_, '_> {
    type Value = Span;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a name")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Span, E> {
        Ok(self.0.borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Span, E> {
        Ok(self.0.owned(text))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn parse(text: &str) -> Result<Value, JsonError> {
        let json = Json::parse(text.as_bytes().to_vec(), JsonLimits::TOKEN)?;
        Ok(serde_json::to_value(json.root()).unwrap())
    }

    #[test]
    fn reads_what_serde_json_reads() {
        for text in [
            r#"{"a":[1,-2,3.5,true,null,"x\u0000\ud83d\ude00",[[]],{}],"b\n":{"c":{"d":[]}},"":18446744073709551615}"#,
            "[]",
            " 1 ",
            r#""""#,
            "-0.0",
        ] {
            assert_eq!(parse(text), Ok(serde_json::from_str(text).unwrap()), "{text}");
        }
    }

    #[test]
    fn finds_members_and_elements() {
        let text = r#"{"a":{"x":1,"y":[1,[2,3],"t"]},"b\u0031":"v\"w","c":-1}"#;
        let json = Json::parse(text.as_bytes().to_vec(), JsonLimits::TOKEN).unwrap();
        let root = json.root();
        let list = root.get("a").unwrap().get("y").unwrap();
        assert_eq!(list.items().unwrap().count(), 3);
        assert_eq!(list.items().unwrap().nth(2).unwrap().as_str(), Some("t"));
        assert_eq!(root.get("b1").unwrap().as_str(), Some("v\"w"));
        assert_eq!(root.get("c").unwrap().as_i64(), Some(-1));
        assert!(root.get("x").is_none() && list.get("x").is_none());
        assert_eq!(
            root.members().unwrap().map(|(name, _)| name).collect::<Vec<_>>(),
            ["a", "b1", "c"]
        );
        assert_eq!(json.at(list.place()).to_string(), r#"[1,[2,3],"t"]"#);
    }

    #[test]
    fn refuses_a_repeated_member_at_any_level_however_it_is_spelt() {
        let members = |count: usize| {
            (0..count).map(|n| format!("\"m{n}\":{n}")).collect::<Vec<_>>().join(",")
        };
        assert!(parse(&format!("{{{}}}", members(2_000))).is_ok());
        for text in [
            r#"{"a":1,"a":1}"#.to_owned(),
            r#"{"o":{"a":1,"b":2,"a":3}}"#.to_owned(),
            r#"[{"a":1,"\u0061":2}]"#.to_owned(),
            r#"{"":1,"":2}"#.to_owned(),
            r#"{"a":{"x":{"y":[1,2]}},"b":[],"a":0}"#.to_owned(),
            format!("{{{},\"m0\":1}}", members(10)),
            format!("{{{},\"m17\":1}}", members(47)),
            format!("{{{},\"m1234\":1}}", members(2_000)),
        ] {
            assert_eq!(parse(&text), Err(JsonError::Duplicate), "{text}");
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
            "{1:2}",
            "[1,]",
            "\"\n\"",
            "\u{feff}{}",
        ] {
            assert!(matches!(parse(text), Err(JsonError::Syntax { .. })), "{text}");
        }
        assert!(Json::parse(b"\"\xff\"".to_vec(), JsonLimits::TOKEN).is_err(), "not UTF-8");
    }
}
