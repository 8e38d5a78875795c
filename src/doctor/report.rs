//! Findings as a table.

use std::fmt::{self, Write as _};

use anstyle::{AnsiColor, Style};

use crate::issuer::{FetchError, ProbeError};

/// How a finding counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grade {
    /// As it should be.
    Good,
    /// Worth knowing; nothing fails by it.
    Note,
    /// Requests fail by it.
    Bad,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How it counts.
    pub grade: Grade,
    /// Which thing.
    pub subject: &'static str,
    /// What was found.
    pub found: String,
    /// What to do about it; empty if there is nothing to do.
    pub remedy: String,
}

/// What was found, in the order in which it was looked at.
#[derive(Debug, Default)]
pub struct Report(Vec<Line>);

#[derive(Debug)]
enum Line {
    Title(String),
    Finding(Finding),
}

impl Report {
    /// All findings.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.0.iter().filter_map(|line| match line {
            Line::Finding(finding) => Some(finding),
            Line::Title(_) => None,
        })
    }

    /// Whether nothing is bad.
    pub fn is_good(&self) -> bool {
        self.findings().all(|finding| finding.grade != Grade::Bad)
    }

    pub(super) fn title(&mut self, title: String) {
        self.0.push(Line::Title(title));
    }

    pub(super) fn good(&mut self, subject: &'static str, found: String) {
        self.add(Grade::Good, subject, found, String::new());
    }

    pub(super) fn note(&mut self, subject: &'static str, found: String, remedy: String) {
        self.add(Grade::Note, subject, found, remedy);
    }

    pub(super) fn bad(&mut self, subject: &'static str, found: String, remedy: String) {
        self.add(Grade::Bad, subject, found, remedy);
    }

    pub(super) fn failed(&mut self, subject: &'static str, error: &ProbeError, remedy: &str) {
        let found = match &error.url {
            Some(url) => format!("{url}: {}", error.error),
            None => error.error.to_string(),
        };
        let found = match &error.error {
            FetchError::Credentials { said, .. } if !said.is_empty() => {
                format!("{found} (it says: {})", shown(said))
            }
            _ => found,
        };
        self.bad(subject, found, remedy.to_owned());
    }

    fn add(&mut self, grade: Grade, subject: &'static str, found: String, remedy: String) {
        self.0.push(Line::Finding(Finding { grade, subject, found, remedy }));
    }
}

/// With colours: whoever writes it to something that is no terminal takes them out.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bold = Style::new().bold();
        for (position, line) in self.0.iter().enumerate() {
            match line {
                Line::Title(title) => {
                    let gap = if position > 0 { "\n" } else { "" };
                    writeln!(f, "{gap}{bold}{title}{bold:#}")?;
                }
                Line::Finding(Finding { grade, subject, found, remedy }) => {
                    let (word, colour) = match grade {
                        Grade::Good => ("ok", AnsiColor::Green.on_default()),
                        Grade::Note => ("note", AnsiColor::Yellow.on_default()),
                        Grade::Bad => ("BAD", AnsiColor::Red.on_default()),
                    };
                    writeln!(f, "  {colour}{word:<5}{colour:#} {subject:<14} {found}")?;
                    if !remedy.is_empty() {
                        writeln!(f, "{:23}-> {remedy}", "")?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// What somebody else has written, fit for a terminal: printable, and not too long.
pub(super) fn shown(text: &str) -> String {
    const MOST: usize = 120;
    let mut out = String::new();
    for character in text.chars().take(MOST) {
        match character {
            c if c.is_control() || !c.is_ascii() && !c.is_alphanumeric() => {
                let _ = write!(out, "{}", c.escape_default()); // to a String: cannot fail
            }
            c => out.push(c),
        }
    }
    if text.chars().nth(MOST).is_some() {
        out.push('…');
    }
    out
}
