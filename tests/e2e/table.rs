//! What was tried, what should have come back, what did. A wrong row does not hide the rows after it.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::{io, mem, thread};

use tokio::time::Instant;

/// The rows so far. Printed at the end, whichever way that comes about.
pub(crate) struct Table {
    rows: Mutex<Vec<Row>>,
    began: Instant,
}

struct Row {
    case: String,
    expected: String,
    got: String,
    ok: bool,
}

impl Table {
    pub(crate) fn new() -> Self {
        Self { rows: Mutex::default(), began: Instant::now() }
    }

    /// A headline with the time since the beginning.
    pub(crate) fn area(&self, name: &str) {
        let case = format!("-- {:5.1} s  {name}", self.began.elapsed().as_secs_f64());
        self.push(Row { case, expected: String::new(), got: String::new(), ok: true });
    }

    /// A row that is right if both texts are the same.
    pub(crate) fn same(&self, case: &str, expected: &str, got: &str) {
        self.judged(case, expected, got, expected == got);
    }

    /// A row that was judged elsewhere.
    pub(crate) fn judged(&self, case: &str, expected: &str, got: &str, ok: bool) {
        let (case, expected, got) = (case.to_owned(), expected.to_owned(), got.to_owned());
        self.push(Row { case, expected, got, ok });
    }

    /// How many rows are wrong so far.
    pub(crate) fn wrong(&self) -> usize {
        self.rows().iter().filter(|row| !row.ok).count()
    }

    /// Prints the table, and fails if a row is wrong.
    pub(crate) fn finish(self) {
        let wrong: Vec<String> =
            self.rows().iter().filter(|row| !row.ok).map(|row| row.case.clone()).collect();
        let count = self.rows().len();
        self.print();
        assert!(wrong.is_empty(), "{} of {count} rows are wrong: {wrong:#?}", wrong.len());
    }

    fn push(&self, row: Row) {
        self.rows().push(row);
    }

    fn rows(&self) -> MutexGuard<'_, Vec<Row>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Once, and past the test harness, which keeps back what a good test prints.
    fn print(&self) {
        let mut text = String::from("\n");
        let mut line = |case: &str, expected: &str, got: &str, ok: &str| {
            let _ = writeln!(text, "{case:<60} | {expected:<56} | {got:<56} | {ok}"); // a String takes all
        };
        line("case", "expected", "got", "ok");
        for Row { case, expected, got, ok } in mem::take(&mut *self.rows()) {
            match ok {
                true if expected.is_empty() => line(&case, "", "", ""),
                true => line(&case, &short(&expected), &short(&got), "yes"),
                false => line(&case, &expected, &got, "NO"),
            }
        }
        let _ = writeln!(text, "{:.1} s", self.began.elapsed().as_secs_f64());
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        if thread::panicking() && self.rows.lock().is_ok_and(|rows| !rows.is_empty()) {
            self.print();
        }
    }
}

/// What fits into a column.
fn short(text: &str) -> String {
    const WIDTH: usize = 56;
    match text.chars().count() > WIDTH {
        true => text.chars().take(WIDTH - 1).chain(['…']).collect(),
        false => text.to_owned(),
    }
}
