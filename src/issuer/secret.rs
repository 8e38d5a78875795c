//! What our client proves itself with: unprintable, and read again when its file changes.

use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// A secret. It cannot be printed.
///
/// ```
/// let secret = vidimus::issuer::Secret::new("hunter2");
/// assert_eq!(format!("{secret:?}"), "Secret(..)");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// Wraps it.
    pub fn new(secret: &str) -> Self {
        Self(secret.into())
    }

    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret(..)")
    }
}

/// Where a secret comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// It is known.
    Value(Secret),
    /// It stands in a file, without the line break at its end. The file is read again while the process
    /// runs, so that a secret can be rotated.
    File(PathBuf),
}

/// No secret, key or certificate is longer.
const MAX_FILE: u64 = 64 * 1024;

/// Reads a file that holds a secret.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, String> {
    read_at_most(path, MAX_FILE)
}

/// Reads a regular file of at most so many bytes.
pub(super) fn read_at_most(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    let told = |error: std::io::Error| format!("{}: {error}", path.display());
    // A pipe or a device may never answer.
    if !std::fs::metadata(path).map_err(told)?.is_file() {
        return Err(format!("{}: not a regular file", path.display()));
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(told)?;
    file.take(most + 1).read_to_end(&mut bytes).map_err(told)?;
    if bytes.len() as u64 > most {
        return Err(format!("{}: larger than {} KiB", path.display(), most / 1024));
    }
    Ok(bytes)
}

/// A secret out of what a file holds.
pub(super) fn line(path: &Path, bytes: &[u8]) -> Result<Secret, String> {
    let text = std::str::from_utf8(bytes).map(|text| text.trim_end_matches(['\r', '\n']));
    match text {
        Ok(text) if !text.is_empty() && !text.contains(['\r', '\n', '\0']) => Ok(Secret::new(text)),
        Ok("") => Err(format!("{}: it is empty", path.display())),
        _ => Err(format!("{}: not one line of text", path.display())),
    }
}
