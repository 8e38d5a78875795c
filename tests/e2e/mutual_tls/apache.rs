//! Apache and the nginx behind it, with the files in `deploy/apache`.

use std::path::Path;
use std::process::Command;

use super::edge::{EDGE, Kind, Process};
use crate::nginx::command;

const APACHE_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/apache/vidimus.conf");
const NGINX_FILE: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/apache/nginx-behind-apache.conf");

pub(crate) const APACHE: Kind = Kind {
    name: "apache",
    provider: "provider = \"apache\"\nheader = \"SSL-Client-Cert\"",
    folders: &["run/behind-apache", "var/log/apache2", "var/log/nginx", "var/lib/nginx"],
    processes: &[
        Process {
            name: "nginx",
            command: |folder| command(folder, NGINX_FILE),
            address: "run/behind-apache/nginx.sock",
        },
        Process { name: "apache2", command: apache, address: EDGE },
    ],
    resumes: true,
    grpc: false,
};

fn apache(folder: &Path) -> Command {
    let mut apache = Command::new("apache2");
    apache.arg("-d").arg(folder).args(["-f", APACHE_FILE, "-D", "FOREGROUND"]);
    apache
}
