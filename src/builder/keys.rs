//! The document that a builder writes, key by key.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use toml::{Table, Value};

/// A table of the document. `Debug` does not print it: a secret may be in it.
#[derive(Clone, Default)]
pub(super) struct Keys {
    values: Table,
    sections: Vec<(String, Keys)>,
    lists: Vec<(&'static str, Keys)>,
    faults: Vec<Fault>,
}

/// What a document cannot say: where, what was found, what is allowed.
pub(super) type Fault = (String, &'static str, &'static str);

impl Keys {
    pub(super) fn text(&mut self, key: &str, text: impl Into<String>) {
        self.values.insert(key.to_owned(), Value::String(text.into()));
    }

    pub(super) fn list(&mut self, key: &str, texts: impl IntoIterator<Item = impl Into<String>>) {
        let texts = texts.into_iter().map(|text| Value::String(text.into()));
        self.values.insert(key.to_owned(), Value::Array(texts.collect()));
    }

    pub(super) fn flag(&mut self, key: &str) {
        self.values.insert(key.to_owned(), true.into());
    }

    pub(super) fn number(&mut self, key: &str, number: usize) {
        let number = i64::try_from(number).unwrap_or(i64::MAX); // which no key allows
        self.values.insert(key.to_owned(), number.into());
    }

    pub(super) fn time(&mut self, key: &str, time: Duration) {
        self.text(key, humantime::format_duration(time).to_string());
    }

    pub(super) fn size(&mut self, key: &str, bytes: u64) {
        self.text(key, format!("{bytes}B"));
    }

    /// A path, as it is or not at all: another spelling would be another file.
    pub(super) fn path(&mut self, key: &str, path: &Path) {
        match path.to_str() {
            Some(path) => self.text(key, path),
            None => {
                let allowed = "one that is UTF-8";
                self.faults.push((key.to_owned(), "a path that is not UTF-8", allowed));
                self.text(key, ""); // so that the key is not missing besides
            }
        }
    }

    /// A text under a name that may stand once only.
    pub(super) fn named(&mut self, name: &str, text: &str) {
        if self.values.contains_key(name) {
            self.twice(name);
        }
        self.text(name, text);
    }

    /// The section of that name, new or not.
    pub(super) fn section(&mut self, name: &str) -> &mut Self {
        let place = self.sections.iter().position(|(known, _)| known == name);
        let place = place.unwrap_or_else(|| {
            self.sections.push((name.to_owned(), Self::default()));
            self.sections.len() - 1
        });
        &mut self.sections[place].1
    }

    /// A section under a name that may stand once only.
    pub(super) fn add(&mut self, name: &str, section: Self) {
        if self.sections.iter().any(|(known, _)| known == name) {
            self.twice(name);
            return;
        }
        self.sections.push((name.to_owned(), section));
    }

    /// One more of a list of sections: `[[name]]`.
    pub(super) fn push(&mut self, name: &'static str, section: Self) {
        self.lists.push((name, section));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.values.is_empty() && self.sections.is_empty() && self.lists.is_empty()
    }

    /// Everything that the document cannot say.
    pub(super) fn faults(&self) -> Vec<Fault> {
        let mut found = self.faults.clone();
        let mut of = |place: &str, section: &Self| {
            let inner = section.faults().into_iter();
            found.extend(inner.map(|(path, was, may)| (format!("{place}.{path}"), was, may)));
        };
        for (name, section) in &self.sections {
            of(name, section);
        }
        let mut places: HashMap<&str, usize> = HashMap::new();
        for (name, section) in &self.lists {
            let place = places.entry(name).or_default();
            of(&format!("{name}[{place}]"), section);
            *place += 1;
        }
        found
    }

    fn twice(&mut self, name: &str) {
        self.faults.push((name.to_owned(), "it twice", "each name once"));
    }

    fn table(&self) -> Table {
        let mut table = self.values.clone();
        for (name, section) in &self.sections {
            table.insert(name.clone(), section.table().into());
        }
        for (name, section) in &self.lists {
            let list = table.entry(*name).or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(list) = list {
                list.push(section.table().into());
            }
        }
        table
    }
}

/// As the file would say it.
impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.table().fmt(f)
    }
}
