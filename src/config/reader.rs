//! Walks a TOML document key by key and collects every mistake on the way.
//!
//! serde stops at the first mistake and knows no line of a missing key; an operator wants all of them
//! at once. A [`Section`] remembers which keys were asked for: what is left at its end is unknown.

use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::str::FromStr;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ConfigError;

pub(super) type Errors = Vec<ConfigError>;

/// A table of the document.
pub(super) struct Section<'a> {
    text: &'a str,
    table: DeTable<'a>,
    path: String,
    line: usize,
    known: Vec<&'static str>,
}

/// A value with its place.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) path: String,
    pub(super) line: usize,
}

/// Reads the syntax.
pub(super) fn document<'a>(text: &'a str, errors: &mut Errors) -> Option<Section<'a>> {
    let (table, mistakes) = DeTable::parse_recoverable(text);
    for mistake in mistakes.iter().take(MAX_SYNTAX_MISTAKES) {
        errors.push(ConfigError {
            line: mistake.span().map_or(0, |span| line(text, &span)),
            path: String::new(),
            found: format!("a mistake in the syntax: {}", mistake.message().replace('\n', "; ")),
            allowed: "TOML 1.1, see https://toml.io".into(),
        });
    }
    let table = table.into_inner();
    mistakes.is_empty().then_some(Section {
        text,
        table,
        path: String::new(),
        line: 0,
        known: Vec::new(),
    })
}

/// Keys that are often looked for in another section.
const ELSEWHERE: [(&str, &str); 13] = [
    ("introspection", "[realm.introspection]"),
    ("client_id", "[realm.introspection]"),
    ("client_secret", "[realm.introspection]"),
    ("client_secret_file", "[realm.introspection]"),
    ("auth", "[realm.introspection]"),
    ("use_for", "[realm.introspection]"),
    ("cache_ttl", "[realm.introspection]"),
    ("prefer_jwt", "[realm.introspection]"),
    ("introspect_realm", "[policy.NAME]"),
    ("forward_jwt", "[policy.NAME]"),
    ("keep_jwt", "[policy.NAME]"),
    ("scopes", "[policy.NAME]"),
    ("roles", "[policy.NAME]"),
];

/// A file that is no TOML at all would otherwise fill the screen.
const MAX_SYNTAX_MISTAKES: usize = 10;

fn line(text: &str, span: &Range<usize>) -> usize {
    text.as_bytes()[..span.start.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}

impl<T> At<T> {
    pub(super) fn error(&self, found: impl Display, allowed: impl Into<String>) -> ConfigError {
        ConfigError {
            line: self.line,
            path: self.path.clone(),
            found: found.to_string(),
            allowed: allowed.into(),
        }
    }
}

impl At<String> {
    /// Reads the text as something else.
    pub(super) fn parse<T: FromStr>(&self, allowed: &str, errors: &mut Errors) -> Option<T> {
        let parsed = self.value.parse().ok();
        if parsed.is_none() {
            errors.push(self.error(format_args!("{:?}", self.value), allowed));
        }
        parsed
    }
}

impl<'a> Section<'a> {
    /// The place of the section itself, for what it lacks.
    pub(super) fn here(&self, key: &str) -> At<()> {
        At { value: (), path: self.path(key), line: self.line }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    fn path(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn take(&mut self, key: &'static str) -> Option<At<DeValue<'a>>> {
        self.known.push(key);
        let value = self.table.remove(key)?;
        let (path, line) = (self.path(key), line(self.text, &value.span()));
        Some(At { value: value.into_inner(), path, line })
    }

    pub(super) fn text(&mut self, key: &'static str, errors: &mut Errors) -> Option<At<String>> {
        self.text_like(key, "text in quotes", errors)
    }

    /// Text of a certain form, such as a time: a bare number is then told the form at once.
    pub(super) fn text_like(
        &mut self,
        key: &'static str,
        allowed: &str,
        errors: &mut Errors,
    ) -> Option<At<String>> {
        let at = self.take(key)?;
        match &at.value {
            DeValue::String(text) => Some(at.with(text.to_string())),
            other => {
                errors.push(at.error(describe(other), allowed));
                None
            }
        }
    }

    /// A secret: whatever stands there, it is not repeated.
    pub(super) fn secret(
        &mut self,
        key: &'static str,
        allowed: &str,
        errors: &mut Errors,
    ) -> Option<At<String>> {
        let at = self.take(key)?;
        match &at.value {
            DeValue::String(text) if !text.is_empty() => Some(at.with(text.to_string())),
            DeValue::String(_) => {
                errors.push(at.error("nothing", allowed));
                None
            }
            _ => {
                errors.push(at.error("something that is not text in quotes", allowed));
                None
            }
        }
    }

    pub(super) fn flag(&mut self, key: &'static str, errors: &mut Errors) -> bool {
        let Some(at) = self.take(key) else { return false };
        match at.value {
            DeValue::Boolean(flag) => flag,
            ref other => {
                errors.push(at.error(describe(other), "true or false"));
                false
            }
        }
    }

    /// A list of texts; one text alone is an error that shows the brackets.
    pub(super) fn list(
        &mut self,
        key: &'static str,
        errors: &mut Errors,
    ) -> Option<At<Vec<At<String>>>> {
        let at = self.take(key)?;
        let (path, line_here) = (at.path.clone(), at.line);
        let DeValue::Array(items) = at.value else {
            let place = At { value: (), path, line: line_here };
            let allowed = format!("a list of texts: {key} = [\"...\"]");
            errors.push(place.error(describe(&at.value), allowed));
            return None;
        };
        let mut texts = Vec::new();
        for (position, item) in items.iter().enumerate() {
            let place = At {
                value: (),
                path: format!("{path}[{position}]"),
                line: line(self.text, &item.span()),
            };
            match item.get_ref() {
                DeValue::String(text) => texts.push(place.with(text.to_string())),
                other => errors.push(place.error(describe(other), "text in quotes")),
            }
        }
        Some(At { value: texts, path, line: line_here })
    }

    /// A list, each item read as something else. Nothing if the key is missing or the list empty
    /// of good items.
    pub(super) fn items<T: FromStr>(
        &mut self,
        key: &'static str,
        allowed: &str,
        errors: &mut Errors,
    ) -> Option<Vec<T>> {
        let list = self.list(key, errors)?;
        if list.value.is_empty() {
            errors.push(list.error("an empty list", allowed));
        }
        let items: Vec<T> =
            list.value.iter().filter_map(|item| item.parse(allowed, errors)).collect();
        (!items.is_empty()).then_some(items)
    }

    pub(super) fn duration(
        &mut self,
        key: &'static str,
        default: Duration,
        range: Range<Duration>,
        errors: &mut Errors,
    ) -> Duration {
        let (from, to) = (range.start, range.end);
        let allowed = format!(
            "a time from \"{}\" to \"{}\", such as \"{}\"",
            humantime::format_duration(from),
            humantime::format_duration(to),
            humantime::format_duration(default)
        );
        let Some(at) = self.text_like(key, &allowed, errors) else { return default };
        match humantime::parse_duration(&at.value) {
            Ok(duration) if (from..=to).contains(&duration) => duration,
            _ => {
                errors.push(at.error(format_args!("{:?}", at.value), allowed));
                default
            }
        }
    }

    pub(super) fn number(
        &mut self,
        key: &'static str,
        default: usize,
        range: RangeInclusive<usize>,
        errors: &mut Errors,
    ) -> usize {
        let Some(at) = self.take(key) else { return default };
        let number = match &at.value {
            DeValue::Integer(number) => number.to_string().parse().ok(),
            _ => None,
        };
        number.filter(|number| range.contains(number)).unwrap_or_else(|| {
            let allowed = format!("a number from {} to {}", range.start(), range.end());
            errors.push(at.error(describe(&at.value), allowed));
            default
        })
    }

    pub(super) fn size(
        &mut self,
        key: &'static str,
        default: &str,
        range: [&str; 2],
        errors: &mut Errors,
    ) -> u64 {
        let bytes = |text: &str| text.parse::<bytesize::ByteSize>().map_or(0, |size| size.as_u64());
        let allowed = format!("a size from {:?} to {:?}, such as {default:?}", range[0], range[1]);
        let Some(at) = self.text_like(key, &allowed, errors) else { return bytes(default) };
        let size = at.value.parse::<bytesize::ByteSize>().ok().map(|size| size.as_u64());
        match size.filter(|size| (bytes(range[0])..=bytes(range[1])).contains(size)) {
            Some(size) => size,
            None => {
                errors.push(at.error(format_args!("{:?}", at.value), allowed));
                bytes(default)
            }
        }
    }

    /// A table inside; an empty one if it is missing.
    pub(super) fn section(&mut self, key: &'static str, errors: &mut Errors) -> Section<'a> {
        let (path, here) = (self.path(key), self.line);
        let empty = |line| Section {
            text: self.text,
            table: DeTable::new(),
            path: path.clone(),
            line,
            known: Vec::new(),
        };
        let empty_here = empty(here);
        let Some(at) = self.take(key) else { return empty_here };
        match at.value {
            DeValue::Table(table) => Section { table, line: at.line, ..empty_here },
            ref other => {
                errors.push(at.error(describe(other), format!("a table: [{}]", at.path)));
                empty_here
            }
        }
    }

    /// `[[key]]`, in order.
    pub(super) fn sections(&mut self, key: &'static str, errors: &mut Errors) -> Vec<Section<'a>> {
        let Some(at) = self.take(key) else { return Vec::new() };
        let (path, here) = (at.path.clone(), at.line);
        let DeValue::Array(items) = at.value else {
            let place = At { value: (), path, line: here };
            let allowed = format!("[[{key}]] with two brackets: there may be several");
            errors.push(place.error(describe(&at.value), allowed));
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (position, item) in items.into_iter().enumerate() {
            sections.extend(self.inner(format!("{path}[{position}]"), item, errors));
        }
        sections
    }

    /// Every remaining key as a table of that name: `[policy.NAME]`.
    pub(super) fn named_sections(mut self, errors: &mut Errors) -> Vec<(At<String>, Section<'a>)> {
        let mut sections = Vec::new();
        for (name, value) in std::mem::take(&mut self.table) {
            let path = self.path(name.get_ref());
            let name = At {
                value: name.get_ref().to_string(),
                path: path.clone(),
                line: line(self.text, &name.span()),
            };
            sections.extend(self.inner(path, value, errors).map(|section| (name, section)));
        }
        sections
    }

    /// Every remaining key with its text: `[policy.NAME.headers]`.
    pub(super) fn named_texts(mut self, errors: &mut Errors) -> Vec<(At<String>, String)> {
        let mut texts = Vec::new();
        for (name, value) in std::mem::take(&mut self.table) {
            let line = line(self.text, &value.span());
            let at =
                At { path: self.path(name.get_ref()), value: name.get_ref().to_string(), line };
            match value.get_ref() {
                DeValue::String(text) => texts.push((at, text.to_string())),
                other => errors.push(at.error(describe(other), "text in quotes")),
            }
        }
        texts
    }

    fn inner(
        &self,
        path: String,
        value: Spanned<DeValue<'a>>,
        errors: &mut Errors,
    ) -> Option<Section<'a>> {
        let line = line(self.text, &value.span());
        match value.into_inner() {
            DeValue::Table(table) => {
                Some(Section { text: self.text, table, path, line, known: Vec::new() })
            }
            other => {
                let place = At { value: (), path, line };
                errors.push(place.error(describe(&other), "a table"));
                None
            }
        }
    }

    /// Whatever was not asked for is unknown.
    pub(super) fn end(self, errors: &mut Errors) {
        for (key, value) in &self.table {
            let key = key.get_ref();
            let near =
                self.known.iter().copied().map(|known| (strsim::jaro_winkler(known, key), known));
            let near =
                near.filter(|(likeness, _)| *likeness > 0.8).max_by(|a, b| a.0.total_cmp(&b.0));
            let elsewhere = ELSEWHERE.iter().find(|(known, section)| {
                *known == key && !self.path.ends_with(section.trim_matches(['[', ']']))
            });
            let allowed = match near.filter(|(likeness, _)| *likeness > 0.95 || elsewhere.is_none())
            {
                Some((_, known)) => format!("{}; did you mean `{known}`?", self.known.join(", ")),
                None => elsewhere.map_or_else(
                    || self.known.join(", "),
                    |(_, section)| format!("it, but in {section}"),
                ),
            };
            let place =
                At { value: (), path: self.path(key), line: line(self.text, &value.span()) };
            errors.push(place.error("an unknown key", allowed));
        }
    }
}

impl<T> At<T> {
    /// The place alone.
    pub(super) fn place(&self) -> At<()> {
        self.with(())
    }

    pub(super) fn with<U>(&self, value: U) -> At<U> {
        At { value, path: self.path.clone(), line: self.line }
    }
}

fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(number) => format!("the number {number}"),
        DeValue::Float(number) => format!("the number {number}"),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(_) => "a date".into(),
        DeValue::Array(_) => "a list".into(),
        DeValue::Table(_) => "a table".into(),
    }
}
