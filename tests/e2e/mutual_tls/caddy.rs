//! Caddy, with `deploy/caddy/Caddyfile`.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::edge::{EDGE, Kind, Process};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/caddy/Caddyfile");

pub(crate) const CADDY: Kind = Kind {
    name: "caddy",
    provider: "provider = \"thumbprint\"",
    folders: &[],
    processes: &[Process { name: "caddy", command: caddy, address: EDGE }],
    resumes: true,
    grpc: false,
};

/// Debian's is older than the name of one option: its comment tells the older one.
fn caddy(folder: &Path) -> Command {
    let text = fs::read_to_string(FILE).expect("the Caddyfile");
    let line = "\n\t\t\ttrust_pool file ";
    assert_eq!(text.matches(line).count(), 1, "the Caddyfile has one line{line}");
    let file = folder.join("Caddyfile");
    fs::write(&file, text.replacen(line, "\n\t\t\ttrusted_ca_cert_file ", 1))
        .expect("a scratch file");
    let mut caddy = Command::new("caddy");
    caddy.args(["run", "--adapter", "caddyfile", "--config"]).arg(file);
    caddy.env("XDG_DATA_HOME", folder).env("XDG_CONFIG_HOME", folder);
    caddy
}
