//! Envoy, with the files in `deploy/envoy`: each as it is, and the one for gRPC with what its comments
//! leave to choose.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::edge::{EDGE, Kind, Process};

const FILES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/envoy");

const PROVIDER: &str = "provider = \"envoy\"";

pub(crate) const ENVOY: Kind = Kind {
    name: "envoy",
    provider: PROVIDER,
    folders: &[],
    processes: &[Process { name: "envoy", command: as_it_is, address: EDGE }],
    resumes: false,
    grpc: true,
};

pub(crate) const ENVOY_BARE: Kind = Kind {
    name: "envoy-bare",
    provider: PROVIDER,
    folders: &[],
    processes: &[Process { name: "envoy", command: with_less, address: EDGE }],
    resumes: false,
    grpc: true,
};

pub(crate) const ENVOY_HTTP: Kind = Kind {
    name: "envoy-http",
    provider: PROVIDER,
    folders: &[],
    processes: &[Process { name: "envoy", command: over_http, address: EDGE }],
    resumes: false,
    grpc: false,
};

fn as_it_is(_: &Path) -> Command {
    envoy(&Path::new(FILES).join("mutual-tls.yaml"))
}

fn over_http(_: &Path) -> Command {
    envoy(&Path::new(FILES).join("ext_authz-http.yaml"))
}

/// The certificate itself is sent, and not its hash. What a client says of its identity is not removed
/// before: it is for Vidimus' answer to replace or remove it. The log has what Vidimus hands over.
fn with_less(folder: &Path) -> Command {
    let mut text =
        fs::read_to_string(Path::new(FILES).join("mutual-tls.yaml")).expect("mutual-tls.yaml");
    for (line, instead) in [
        ("include_peer_certificate: false", "include_peer_certificate: true"),
        // Names that look like an identity header are shown to Vidimus, which has them removed.
        ("- exact: x-forwarded-client-cert", "- safe_regex: { regex: \"x[^a-z]auth.*\" }"),
        ("              - remove_on_match: { key_matcher: { prefix: x-auth-request- } }\n", ""),
        (r#""[^:]*[^a-z0-9:-].*""#, r#""[^:]*cert.*""#),
        (
            r#"sub=\"%REQ(X-AUTH-REQUEST-USER)%\""#,
            r#"%REQ(X-AUTH-REQUEST-CLIENT)% client=\"%DYNAMIC_METADATA(envoy.filters.http.ext_authz:client)%\""#,
        ),
    ] {
        assert_eq!(text.matches(line).count(), 1, "mutual-tls.yaml has one line {line}");
        text = text.replacen(line, instead, 1);
    }
    let file = folder.join("envoy.yaml");
    fs::write(&file, text).expect("a scratch file");
    envoy(&file)
}

pub(crate) fn envoy(configuration: &Path) -> Command {
    let program = env::var_os("ENVOY");
    let program = program.expect("there is no Envoy: tests/run installs it; or set ENVOY=PROGRAM");
    let mut envoy = Command::new(program);
    envoy.arg("-c").arg(configuration);
    envoy.args(["--concurrency", "1", "--disable-hot-restart", "-l", "warning"]);
    envoy.args(["--file-flush-interval-msec", "100"]); // its log comes at once
    envoy
}
