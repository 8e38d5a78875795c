//! The real nginx with `deploy/nginx/nginx.conf` as it is: the site at 127.0.0.1:8080, the service
//! that it protects at 127.0.0.1:8081, everything else in a scratch folder.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::process::{Guard, signal, until};

/// Where `nginx.conf` listens.
pub(crate) const SITE: &str = "127.0.0.1:8080";

const CONFIGURATION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/nginx/nginx.conf");
const ERRORS: &str = "var/log/nginx/error.log";
const ACCESS: &str = "var/log/nginx/access.log";

/// An nginx that is running. Ends when dropped, its folder with it.
pub(crate) struct Nginx {
    child: Child,
    folder: TempDir,
    _guard: Guard,
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
        let starting =
            File::create(folder.path().join("start.log")).expect("a file for its output");
        let child = Command::new("nginx")
            .arg("-p")
            .arg(folder.path())
            .args(["-c", CONFIGURATION, "-g", "daemon off;"])
            // The file names Vidimus' socket by a path that nginx reads from where it was started.
            .current_dir(folder.path())
            .env("PATH", path_with_sbin())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(starting)
            .spawn();
        let child = child.unwrap_or_else(|error| match error.kind() {
            ErrorKind::NotFound => panic!("there is no nginx: apt-get install nginx"),
            _ => panic!("nginx does not start: {error}"),
        });
        let mut nginx = Self { _guard: Guard::of(child.id()), child, folder };
        let answers = until(Duration::from_secs(10), async || {
            let ended = nginx.child.try_wait().ok().flatten().is_some();
            (ended || TcpStream::connect(SITE).is_ok()).then_some(!ended)
        });
        if answers.await != Some(true) {
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

impl Drop for Nginx {
    /// Asked to end it takes its workers along; killed it would leave them behind.
    fn drop(&mut self) {
        signal(self.child.id(), "TERM");
        for _ in 0..500 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The folders that `nginx.conf` asks for. If root starts nginx its workers are `www-data`, and must
/// get through to the socket.
fn scratch() -> TempDir {
    let folder = tempfile::tempdir().expect("a scratch folder");
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("its mode");
    for name in ["run/vidimus", "var/log/nginx", "var/lib/nginx"] {
        fs::create_dir_all(folder.path().join(name)).expect("nginx's folders");
    }
    folder
}

/// Debian keeps nginx where only root looks.
fn path_with_sbin() -> OsString {
    let mut path = env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/local/sbin:/usr/sbin");
    path
}
