//! HAProxy, with the files in `deploy/haproxy`: as they are, and with the whole certificate for its hash.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::edge::{EDGE, Kind, Process};

const FILES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/haproxy");

/// Where `haproxy.cfg` finds `vidimus.lua`.
const FOLDERS: &[&str] = &["etc/haproxy"];

pub(crate) const HAPROXY: Kind = Kind {
    name: "haproxy",
    provider: "provider = \"thumbprint\"",
    folders: FOLDERS,
    processes: &[Process { name: "haproxy", command: as_it_is, address: EDGE }],
    resumes: true,
    grpc: false,
};

pub(crate) const HAPROXY_DER: Kind = Kind {
    name: "haproxy-der",
    provider: "provider = \"haproxy\"",
    folders: FOLDERS,
    processes: &[Process { name: "haproxy", command: with_the_other_line, address: EDGE }],
    resumes: true,
    grpc: false,
};

fn as_it_is(folder: &Path) -> Command {
    haproxy(folder, &Path::new(FILES).join("haproxy.cfg"))
}

/// The line for the hash commented out, and the one for the certificate taken in.
fn with_the_other_line(folder: &Path) -> Command {
    let mut text = fs::read_to_string(Path::new(FILES).join("haproxy.cfg")).expect("haproxy.cfg");
    for (line, instead) in [
        ("\n    http-request set-var(txn.client_cert_sha256)", "\n    # "),
        (
            "\n    # http-request set-var(txn.client_cert_der)",
            "\n    http-request set-var(txn.client_cert_der)",
        ),
    ] {
        assert_eq!(text.matches(line).count(), 1, "haproxy.cfg has one line{line}");
        text = text.replacen(line, instead, 1);
    }
    let file = folder.join("etc/haproxy/haproxy.cfg");
    fs::write(&file, text).expect("a scratch file");
    haproxy(folder, &file)
}

/// What the files ask for is put beside them; HAProxy stays in the foreground.
fn haproxy(folder: &Path, configuration: &Path) -> Command {
    let lua = Path::new(FILES).join("vidimus.lua");
    fs::copy(lua, folder.join("etc/haproxy/vidimus.lua")).expect("a copy");
    let tls = folder.join("etc/vidimus/tls");
    let read = |name: &str| fs::read_to_string(tls.join(name)).expect("a certificate, its key");
    let bundle = read("server.pem") + &read("server.key");
    fs::write(tls.join("server-bundle.pem"), bundle).expect("a scratch file");
    let mut haproxy = Command::new("haproxy");
    haproxy.arg("-f").arg(configuration);
    haproxy
}
