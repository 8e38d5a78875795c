//! Envoy, with `deploy/envoy/envoy.yaml`.

use std::env;
use std::path::Path;
use std::process::Command;

use super::edge::{EDGE, Kind, Process};

const CONFIGURATION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/envoy/envoy.yaml");

pub(crate) const ENVOY: Kind = Kind {
    name: "envoy",
    provider: "provider = \"envoy\"",
    folders: &[],
    processes: &[Process { name: "envoy", command: envoy, address: EDGE }],
    resumes: false,
};

fn envoy(_: &Path) -> Command {
    let program = env::var_os("ENVOY");
    let program = program.expect("there is no Envoy: tests/run installs it; or set ENVOY=PROGRAM");
    let mut envoy = Command::new(program);
    envoy.args([
        "-c",
        CONFIGURATION,
        "--concurrency",
        "1",
        "--disable-hot-restart",
        "-l",
        "warning",
    ]);
    envoy
}
