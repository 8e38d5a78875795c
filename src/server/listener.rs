//! Where edges connect: TCP and unix sockets.

use std::fmt;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::config::ListenAddr;
use crate::edge::forwarded::Peer;

/// An address that could not be listened at, and what may help.
#[derive(Debug)]
pub struct BindError {
    address: ListenAddr,
    reason: String,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen at {}: {}", self.address, self.reason)
    }
}

impl std::error::Error for BindError {}

/// A bound address.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A unix socket; its file goes when this does.
    Unix(UnixListener, SocketFile),
}

/// A connection of either kind.
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Listener {
    /// Binds. A unix socket gets `mode`; one that a dead process left behind is replaced.
    ///
    /// # Errors
    /// With what to do about it.
    pub async fn bind(address: &ListenAddr, mode: u32) -> Result<Self, BindError> {
        let fail = |reason: String| BindError { address: address.clone(), reason };
        match address {
            ListenAddr::Tcp(socket) => match TcpListener::bind(socket).await {
                Ok(listener) => Ok(Self::Tcp(listener)),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(fail(
                    "another process listens there; stop it, or choose another address (listen)"
                        .into(),
                )),
                Err(error) => Err(fail(error.to_string())),
            },
            ListenAddr::Unix(path) => {
                clear_stale(path).map_err(fail)?;
                let (listener, file) = bind_unix(path, mode).map_err(|error| {
                    fail(match error.kind() {
                        io::ErrorKind::NotFound => {
                            format!("there is no folder {}; create it first", parent(path))
                        }
                        io::ErrorKind::PermissionDenied => {
                            format!("this user may not create a file in {}", parent(path))
                        }
                        _ => error.to_string(),
                    })
                })?;
                Ok(Self::Unix(listener, file))
            }
        }
    }

    /// The address it really has: with port 0, the one that was chosen.
    pub fn address(&self) -> ListenAddr {
        match self {
            // A bound listener has an address; a made-up one would only mislead the log.
            Self::Tcp(listener) => {
                ListenAddr::Tcp(listener.local_addr().unwrap_or_else(|_| ([0, 0, 0, 0], 0).into()))
            }
            Self::Unix(_, file) => ListenAddr::Unix(file.path.clone()),
        }
    }

    pub(super) async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                let _ = stream.set_nodelay(true); // answers are one small packet; it may be gone already
                Ok((Stream::Tcp(stream), Peer::Ip(address.ip())))
            }
            Self::Unix(listener, _) => {
                listener.accept().await.map(|(stream, _)| (Stream::Unix(stream), Peer::Unix))
            }
        }
    }
}

/// Removes the file of a unix socket when dropped, unless another process has put its own there.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    id: Option<(u64, u64)>,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.id.is_some() && self.id == id(&self.path) {
            let _ = std::fs::remove_file(&self.path); // it may be gone already
        }
    }
}

fn id(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

/// The file has its mode before anybody can connect: until a socket listens, connecting is refused.
fn bind_unix(path: &Path, mode: u32) -> io::Result<(UnixListener, SocketFile)> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile { path: path.to_owned(), id: id(path) };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok((UnixListener::from_std(socket.into())?, file))
}

/// Connections that wait in the kernel's queue; the system may allow fewer.
const BACKLOG: i32 = 1_024;

/// A socket file outlives a process that was killed. One that still answers is left alone.
fn clear_stale(path: &Path) -> Result<(), String> {
    let Ok(found) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() {
        return Err("there is a file of that name that is no socket".into());
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
                .map_err(|error| format!("cannot remove the old one: {error}"))
        }
        Err(error) => Err(format!("cannot tell whether another process listens there: {error}")),
        Ok(_) => {
            Err("another process listens there; stop it, or choose another path (listen)".into())
        }
    }
}

fn parent(path: &Path) -> std::path::Display<'_> {
    path.parent().unwrap_or_else(|| Path::new(".")).display()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn replaces_the_socket_of_a_dead_process_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("edge.sock");
        let address = ListenAddr::Unix(path.clone());
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap()); // leaves its file behind
        let listener = Listener::bind(&address, 0o660).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);

        let error = Listener::bind(&address, 0o660).await.unwrap_err().to_string();
        assert!(error.contains("another process listens there"), "{error}");

        drop(listener);
        assert!(!path.exists());
        std::fs::write(&path, "precious").unwrap();
        let error = Listener::bind(&address, 0o660).await.unwrap_err().to_string();
        assert!(error.contains("no socket"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");

        let nowhere = ListenAddr::Unix(folder.path().join("a/b.sock"));
        let error = Listener::bind(&nowhere, 0o660).await.unwrap_err().to_string();
        assert!(error.contains("there is no folder"), "{error}");
    }
}
