//! An operator's mistakes, said so that they can be mended.

use std::fmt;

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Line, from 1; 0 if the whole file is meant.
    pub line: usize,
    /// The key, as `realm[0].issuer`.
    pub path: String,
    /// What is there, or `nothing`.
    pub found: String,
    /// What may be there, and how to mend it.
    pub allowed: String,
}

/// All mistakes of a file, in its order.
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    name: String,
    errors: Vec<ConfigError>,
}

impl ConfigErrors {
    pub(crate) fn new(name: &str, mut errors: Vec<ConfigError>) -> Self {
        errors.sort_by_key(|error| error.line);
        for ConfigError { path, found, allowed, .. } in &mut errors {
            [path, found, allowed].into_iter().for_each(|text| *text = printable(text));
        }
        Self { name: name.to_owned(), errors }
    }

    pub(super) fn unreadable(name: &str, error: &std::io::Error) -> Self {
        let found = format!("cannot be read: {error}");
        let error = ConfigError { line: 0, path: String::new(), found, allowed: String::new() };
        Self { name: name.to_owned(), errors: vec![error] }
    }

    /// The same mistakes in settings that came from flags.
    pub fn as_flags(mut self) -> Self {
        for error in &mut self.errors {
            let key = error.path.rsplit('.').next().unwrap_or_default();
            error.path = format!("--{}", key.split('[').next().unwrap_or_default());
            error.line = 0;
        }
        self
    }

    /// The mistakes.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.errors.iter()
    }
}

impl fmt::Display for ConfigErrors {
    /// A line each, as `nginx -t` does: `FILE:LINE: KEY: found X; allowed: Y`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, error) in self.errors.iter().enumerate() {
            if position > 0 {
                writeln!(f)?;
            }
            let ConfigError { line, path, found, allowed } = error;
            write!(f, "{}:", self.name)?;
            if *line > 0 {
                write!(f, "{line}:")?;
            }
            if !path.is_empty() {
                write!(f, " {path}:")?;
            }
            match allowed.is_empty() {
                true => write!(f, " {found}")?,
                false => write!(f, " found {found}; allowed: {allowed}")?,
            }
        }
        Ok(())
    }
}

/// The same text: a `main` that returns the error prints it by `Debug`.
impl fmt::Debug for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for ConfigErrors {}

/// Names are repeated as they stand in the file: a line break or an escape sequence in one must not become
/// one of the log or the terminal.
fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for sign in text.chars() {
        match sign {
            '"' | '\'' | '\\' => shown.push(sign),
            _ => shown.extend(sign.escape_debug()),
        }
    }
    shown
}
