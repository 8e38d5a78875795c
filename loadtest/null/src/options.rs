//! A command and its options, each with a value but for the two that are switches.

use std::collections::HashMap;
use std::str::FromStr;

use crate::Outcome;

pub(crate) struct Options {
    pub(crate) command: String,
    values: HashMap<String, String>,
}

impl Options {
    pub(crate) fn read() -> Outcome<Self> {
        let mut arguments = std::env::args().skip(1);
        let command = arguments.next().ok_or("which command?")?;
        let mut values = HashMap::new();
        while let Some(argument) = arguments.next() {
            let name = argument.strip_prefix("--").ok_or(format!("{argument:?} is no option"))?;
            let value = match name {
                "headers" => String::new(),
                _ => arguments.next().ok_or(format!("--{name} needs a value"))?,
            };
            values.insert(name.to_owned(), value);
        }
        Ok(Self { command, values })
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    pub(crate) fn need(&self, name: &str) -> Outcome<&str> {
        Ok(self.get(name).ok_or(format!("--{name} is missing"))?)
    }

    pub(crate) fn number<T: FromStr>(&self, name: &str) -> Outcome<Option<T>> {
        let read = |text: &str| text.parse().map_err(|_| format!("--{name}: not a number"));
        Ok(self.get(name).map(read).transpose()?)
    }
}
