//! Fills the nodes of a document while serde_json reads it.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::{JsonError, Kind, Node, Span, UNESCAPED, slice};

pub(super) struct Builder<'t> {
    pub(super) text: &'t str,
    pub(super) unescaped: String,
    pub(super) nodes: Vec<Node>,
    /// Members and elements that may still come.
    pub(super) left: u32,
    /// serde's errors are opaque: the reason is left here.
    pub(super) broken: Option<JsonError>,
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

/// Reads one value.
pub(super) struct Seed<'b, 't> {
    pub(super) builder: &'b mut Builder<'t>,
    /// Containers that may still be opened.
    pub(super) depth: u8,
    /// Its name, inside an object.
    pub(super) name: Span,
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
