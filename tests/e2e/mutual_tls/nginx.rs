//! nginx, with `deploy/nginx/mutual-tls.conf`.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use super::edge::{EDGE, Kind, Process};
use crate::nginx::{FOLDERS, command};

const CONFIGURATION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/nginx/mutual-tls.conf");

pub(crate) const NGINX: Kind = Kind {
    name: "nginx",
    provider: "provider = \"nginx\"",
    folders: FOLDERS,
    processes: &[Process { name: "nginx", command: nginx, address: EDGE }],
    resumes: true,
    grpc: false,
};

/// It looks for certificates beside its configuration, so the file must seem to lie in the folder.
fn nginx(folder: &Path) -> Command {
    let file = folder.join("mutual-tls.conf");
    symlink(CONFIGURATION, &file).expect("a link");
    command(folder, &file)
}
