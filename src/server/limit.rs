//! How many connections the process can really have.
//!
//! Out of file descriptors, keys can no longer be fetched and the admin address no longer answers: an
//! overload of the edge would become an outage of everything.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Kept for issuers, the admin address, listeners and files.
const RESERVE: u64 = 192;

/// Raises the limit on open files as far as this user may, and gives the number of connections that
/// fits under it, at most `wanted`.
pub(super) fn connections(wanted: usize) -> usize {
    let old = getrlimit(Resource::Nofile);
    // Refused where the system caps it lower still: the old one then holds.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: old.maximum, maximum: old.maximum });
    let files = getrlimit(Resource::Nofile).current;
    let fits = fit(wanted, files);
    if fits < wanted {
        tracing::warn!(
            connections = fits,
            wanted,
            files,
            "fewer connections than usual: raise the limit on open files (systemd: LimitNOFILE)"
        );
    }
    fits
}

/// No limit is known as `None`.
fn fit(wanted: usize, files: Option<u64>) -> usize {
    let Some(files) = files else { return wanted };
    let room = files.saturating_sub(RESERVE).max(files / 4).max(1);
    wanted.min(usize::try_from(room).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::fit;

    #[test]
    fn connections_leave_room_for_everything_else() {
        assert_eq!(fit(10_000, None), 10_000);
        assert_eq!(fit(10_000, Some(1_000_000)), 10_000);
        assert_eq!(fit(10_000, Some(1_024)), 832);
        assert_eq!(fit(10_000, Some(128)), 32);
        assert_eq!(fit(10_000, Some(0)), 1);
    }
}
