//! How many connections the process can really have.
//!
//! Out of file descriptors, keys can no longer be fetched and the admin address no longer answers: an
//! overload of the edge would become an outage of everything.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Kept for issuers, the admin address, listeners and files.
const RESERVE: u64 = 192;

/// Raises the process' limit on open files as far as this user may. For the command, not for a library:
/// it is the whole process' limit.
pub fn raise_open_files() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    // Refused where the system caps it lower still: the old one then holds.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// The number of connections that fits under the limit, at most `wanted`, beside so many calls to
/// issuers.
pub(super) fn fit_connections(wanted: usize, calls: usize) -> usize {
    let files = getrlimit(Resource::Nofile).current;
    let calls = u64::try_from(calls).unwrap_or(u64::MAX);
    let fits = fit(wanted, files.map(|files| files.saturating_sub(calls)));
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
