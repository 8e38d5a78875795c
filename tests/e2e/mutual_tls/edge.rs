//! A real proxy that ends mutual TLS, with its files in `deploy/` as they are.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::certificates::Certificates;
use crate::process::{Server, log_files};

/// Where each of them listens, one at a time.
pub(crate) const EDGE: &str = "127.0.0.1:8443";

/// Below the folder in which an edge is started: its certificate, its key, and the authority of its
/// clients.
const TLS: &str = "etc/vidimus/tls";

/// What one proxy needs. It protects `/orders/` and `/admin/` of the service at 127.0.0.1:8081, and asks
/// Vidimus at `run/vidimus/edge.sock` under the policies `default` and `admin`.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// Lines of `[client_certificate]`.
    pub(crate) provider: &'static str,
    /// What must exist below the folder in which it is started, beside `run/vidimus`.
    pub(crate) folders: &'static [&'static str],
    /// Its processes, in the order of their start. All are started in that folder.
    pub(crate) processes: &'static [Process],
    /// Whether it lets clients resume TLS sessions.
    pub(crate) resumes: bool,
    /// Whether it asks by gRPC.
    pub(crate) grpc: bool,
}

pub(crate) struct Process {
    pub(crate) name: &'static str,
    pub(crate) command: fn(&Path) -> Command,
    /// It runs once it accepts connections there: `HOST:PORT`, or the path of a unix socket.
    pub(crate) address: &'static str,
}

impl Process {
    fn connects(&self, folder: &Path) -> bool {
        match self.address.contains('/') {
            true => UnixStream::connect(folder.join(self.address)).is_ok(),
            false => TcpStream::connect(self.address).is_ok(),
        }
    }
}

/// A proxy that is running. Ends when dropped; its folder stays, for its logs.
pub(crate) struct Edge {
    pub(crate) kind: &'static Kind,
    folder: PathBuf,
    servers: Vec<Server>,
}

impl Edge {
    /// Starts it in `folder`, which this makes, and waits until it accepts connections.
    pub(crate) async fn start(
        kind: &'static Kind,
        folder: &Path,
        certificates: &Certificates,
    ) -> Self {
        if let Err(error) = TcpListener::bind(EDGE) {
            panic!("{} listens at {EDGE}, where another process does: {error}", kind.name);
        }
        for name in kind.folders.iter().chain(&["run/vidimus", TLS]) {
            fs::create_dir_all(folder.join(name)).expect("a scratch folder");
        }
        for (file, name) in [
            ("server.pem", "server.pem"),
            ("server.key", "server.key"),
            ("clients-ca.pem", "ca.pem"),
        ] {
            fs::copy(certificates.file(name), folder.join(TLS).join(file)).expect("a copy");
        }
        let mut edge = Self { kind, folder: folder.to_owned(), servers: Vec::new() };
        for process in kind.processes {
            let log = folder.join(process.name).with_extension("log");
            let mut server = Server::start(&mut (process.command)(folder), folder, &log);
            let accepts = server.accepts(|| process.connects(folder)).await;
            edge.servers.push(server);
            if !accepts {
                panic!("{} does not serve:\n{}", process.name, edge.logs());
            }
        }
        edge
    }

    /// The end of every log below its folder.
    pub(crate) fn logs(&self) -> String {
        let mut text = String::new();
        for path in log_files(&self.folder) {
            let log = String::from_utf8_lossy(&fs::read(&path).unwrap_or_default()).into_owned();
            let lines: Vec<&str> = log.lines().collect();
            let end = lines[lines.len().saturating_sub(20)..].join("\n");
            text += &format!("--- {}\n{end}\n", path.display());
        }
        text
    }
}

impl Drop for Edge {
    /// The first that was started is the last to end.
    fn drop(&mut self) {
        while self.servers.pop().is_some() {}
    }
}
