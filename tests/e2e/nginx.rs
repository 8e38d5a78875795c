//! The real nginx with `deploy/nginx/nginx.conf` as it is: the site at 127.0.0.1:8080, the service
//! that it protects at 127.0.0.1:8081, everything else in a scratch folder.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::process::Server;

/// Where `nginx.conf` listens.
pub(crate) const SITE: &str = "127.0.0.1:8080";

const CONFIGURATION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/nginx/nginx.conf");
const ERRORS: &str = "var/log/nginx/error.log";
const ACCESS: &str = "var/log/nginx/access.log";

/// An nginx that is running. Ends when dropped, its folder with it.
pub(crate) struct Nginx {
    _server: Server,
    folder: TempDir,
}

impl Nginx {
    /// Starts it, and waits until it accepts connections.
    pub(crate) async fn start() -> Self {
        if let Err(error) = TcpListener::bind(SITE) {
            panic!(
                "deploy/nginx/nginx.conf listens at {SITE}, where another process does: {error}"
            );
        }
        let folder = scratch();
        let mut command = command(folder.path(), CONFIGURATION);
        let log = folder.path().join("start.log");
        // The file names Vidimus' socket by a path that nginx reads from where it was started.
        let mut server = Server::start(&mut command, folder.path(), &log);
        let accepts = server.accepts(|| TcpStream::connect(SITE).is_ok()).await;
        let nginx = Self { _server: server, folder };
        if !accepts {
            panic!("nginx does not serve:\n{}{}", nginx.read("start.log"), nginx.read(ERRORS));
        }
        nginx
    }

    /// Its prefix: `run/vidimus/edge.sock` below it is where it asks Vidimus.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Both logs, as far as they have been written.
    pub(crate) fn logs(&self) -> String {
        self.read(ACCESS) + &self.read(ERRORS)
    }

    fn read(&self, file: &str) -> String {
        let bytes = fs::read(self.folder().join(file)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// nginx with this file, in the foreground.
pub(crate) fn command(folder: &Path, configuration: impl AsRef<OsStr>) -> Command {
    let mut nginx = Command::new("nginx");
    nginx.arg("-p").arg(folder).arg("-c").arg(configuration).args(["-g", "daemon off;"]);
    nginx
}

/// The folders that nginx' files ask for.
pub(crate) const FOLDERS: &[&str] = &["run/vidimus", "var/log/nginx", "var/lib/nginx"];

/// If root starts nginx its workers are `www-data`, and must get through to the socket.
fn scratch() -> TempDir {
    let folder = tempfile::tempdir().expect("a scratch folder");
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("its mode");
    for name in FOLDERS {
        fs::create_dir_all(folder.path().join(name)).expect("nginx's folders");
    }
    folder
}
