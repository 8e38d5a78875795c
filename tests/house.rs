//! The house matches its map: rooms use only what they may, files stay small, documents stay true.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what broke"
)]

use std::path::{Path, PathBuf};

use vidimus::check::{ClaimPath, Denial, IdentityHeaders};
use vidimus::config::{Config, Provider};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every Rust file below a folder of src.
fn files(room: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root().join("src").join(room)];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            found.push(path);
        }
    }
    assert!(!found.is_empty(), "no file in src/{room}");
    found
}

/// The code of a file without its tests and comments.
fn code(path: &Path) -> String {
    let text = read(path);
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn is_test(path: &Path) -> bool {
    path.ends_with("tests.rs") || path.ends_with("wycheproof.rs")
}

#[test]
fn check_is_pure() {
    for path in files("check").into_iter().filter(|path| !is_test(path)) {
        let code = code(&path);
        for banned in [
            "std::fs",
            "std::net",
            "std::thread",
            "std::process",
            "std::env",
            "SystemTime",
            "Instant",
            "Mutex",
            "RwLock",
            "Atomic",
            "\nstatic ",
            "async ",
            ".await",
            "tokio",
            "tracing",
            "println",
            "unsafe",
        ] {
            assert!(!code.contains(banned), "{} uses {banned}", path.display());
        }
    }
}

#[test]
fn rooms_use_only_what_the_map_allows() {
    for (room, allowed) in [
        ("check", &[][..]),
        ("gate", &["check"]),
        ("issuer", &["check", "gate"]),
        ("edge", &["check", "gate"]),
        ("telemetry", &["check", "gate", "issuer"]),
        ("config", &["check", "gate", "issuer", "edge"]),
        ("builder", &["check", "gate", "issuer", "edge", "config"]),
        ("testing", &["check", "gate", "issuer"]),
        ("server", &["check", "gate", "issuer", "edge", "telemetry", "config"]),
        ("demo", &["check", "gate", "issuer", "config", "server", "testing"]),
        ("doctor", &["check", "gate", "issuer", "edge", "config"]),
    ] {
        for path in files(room) {
            let code = code(&path);
            for (place, _) in code.match_indices("crate::") {
                let used = code[place + 7..].split(|c: char| !c.is_alphanumeric()).next().unwrap();
                let fine = used == room || allowed.contains(&used) || used == "s";
                assert!(fine, "{} uses {used}", path.display());
            }
        }
    }
}

#[test]
fn files_stay_small() {
    let lines = |path: &Path| read(path).lines().count();
    for path in files("") {
        assert!(lines(&path) <= 600, "{} is over 600 lines", path.display());
    }
    assert!(lines(&root().join("src/main.rs")) <= 130);
    assert!(lines(&root().join("src/gate/mod.rs")) <= 250);
    assert!(lines(&root().join("src/edge/auth_request.rs")) <= 150);
    assert!(lines(&root().join("src/edge/layer.rs")) <= 250); // half of it is documentation
}

#[test]
fn the_map_names_every_file() {
    let map = read(&root().join("ARCHITECTURE.md"));
    for path in files("") {
        let name = path.strip_prefix(root().join("src")).unwrap();
        let (folder, file) =
            (name.parent().unwrap().to_str().unwrap(), name.file_name().unwrap().to_str().unwrap());
        assert!(map.contains(file), "ARCHITECTURE.md lacks {file} of src/{folder}");
    }
}

#[test]
fn every_reason_and_every_series_is_documented() {
    let (reasons, series) = ("deploy/guide/troubleshooting.md", "deploy/guide/operating.md");
    let text = read(&root().join(reasons));
    for denial in Denial::ALL {
        let (label, sentence) = (denial.answer().label, denial.answer().description);
        let row = |line: &str| line.contains(&format!("`{label}`")) && line.contains(sentence);
        assert!(text.lines().any(row), "{reasons} does not explain `{label}`, {sentence:?}");
    }
    let metrics = read(&root().join("src/telemetry/metrics.rs"));
    let names =
        metrics.split('"').filter(|text| text.starts_with("vidimus_") && !text.contains(' '));
    let names: Vec<_> = names.collect();
    assert!(names.len() > 10, "{names:?}");
    let text = read(&root().join(series));
    for name in names {
        assert!(text.contains(name), "{series} does not mention {name}");
    }
}

#[test]
fn every_way_for_an_issuer_to_fail_is_documented() {
    let guide = read(&root().join("deploy/guide/troubleshooting.md"));
    for (file, function) in [
        ("issuer/http.rs", "pub fn label(&self)"),
        ("check/introspection.rs", "pub fn label(self)"),
    ] {
        let code = read(&root().join("src").join(file));
        let (_, body) = code.split_once(function).unwrap();
        let (body, _) = body.split_once("\n    }\n").unwrap();
        let labels: Vec<_> = body.split('"').skip(1).step_by(2).collect();
        assert!(labels.len() >= 3, "{labels:?}");
        for label in labels {
            assert!(guide.contains(&format!("`{label}`")), "the guide does not explain {label}");
        }
    }
}

/// `FILE::NAME` in backticks, on the page about attacks.
#[test]
fn every_known_attack_names_a_test_that_exists() {
    let page = read(&root().join("src/guide/known_attacks.md"));
    let named: Vec<_> = page.split('`').filter_map(|text| text.split_once(".rs::")).collect();
    assert!(named.len() > 25, "{named:?}");
    for (file, name) in named {
        let code = read(&root().join(format!("{file}.rs")));
        assert!(code.contains(&format!("fn {name}(")), "{file}.rs has no test {name}");
    }
    for row in page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---")) {
        assert!(row.contains(".rs::") || row.contains("| proof |"), "no proof: {row}");
    }
}

/// Written into a configuration, a default changes nothing.
#[test]
fn the_page_of_defaults_tells_the_defaults() {
    let document = |extra: &[(&str, &str, &str)]| {
        let lines = |section: &str| {
            let of = extra.iter().filter(|(in_section, ..)| *in_section == section);
            of.map(|(_, key, value)| format!("{key} = {value}\n")).collect::<String>()
        };
        let text = format!(
            "[server]\n{}[token]\n{}[client_certificate]\nprovider = \"nginx\"\n{}[cache]\n{}[[realm]]\nissuer = \"https://id.example.com/realms/shop\"\n\
             audience = [\"a\"]\n{}[realm.jwks]\n{}[realm.introspection]\nclient_id = \"me\"\n\
             client_secret = \"x\"\n{}[policy.default]\n{}",
            lines("server"),
            lines("token"),
            lines("client_certificate"),
            lines("cache"),
            lines("realm"),
            lines("realm.jwks"),
            lines("introspection"),
            lines("policy"),
        );
        format!("{:?}", Config::parse(&text, "page").unwrap_or_else(|errors| panic!("{errors}")))
    };
    let plain = document(&[]);
    let page = read(&root().join("src/guide/defaults.md"));
    let rows = page.lines().filter_map(|line| {
        let (key, rest) = line.strip_prefix("| `")?.split_once("` | `")?;
        let (value, reason) = rest.split_once("` | ")?;
        Some((key, value, reason))
    });
    let rows: Vec<_> = rows.collect();
    assert!(rows.len() > 15, "{rows:?}");
    for (key, value, reason) in rows {
        let (section, key) = key.rsplit_once('.').unwrap();
        assert_eq!(document(&[(section, key, value)]), plain, "{section}.{key} is not {value}");
        assert!(reason.len() > 6, "{key} has no reason");
    }
    for provider in Provider::ALL {
        let header = format!(" | {} |", provider.default_header());
        let row = |line: &str| line.contains(provider.name()) && line.ends_with(&header);
        assert!(page.lines().any(row), "no row for {provider}");
    }
    for (header, claim) in IdentityHeaders::default().iter() {
        let row = |line: &str| {
            let mut cells = line.trim_matches(['|', ' ']).split(" | ");
            cells.next().is_some_and(|name| header.as_str().eq_ignore_ascii_case(name))
                && cells.next().is_some_and(|path| ClaimPath::new(path) == *claim)
        };
        assert!(page.lines().any(row), "no row for {header}");
    }
}

/// What a file can say of a gate, a builder can.
#[test]
fn every_key_has_a_typed_setting() {
    let builder: String = files("builder").iter().map(|path| read(path)).collect();
    let reference = read(&root().join("deploy/vidimus.toml"));
    let keys = reference.lines().filter_map(|line| {
        let (key, _) = line.trim_start_matches(['#', ' ']).split_once(" = ")?;
        key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_').then_some(key)
    });
    let of_the_process = ["listen", "admin", "socket_mode", "drain_timeout"];
    let of_an_example = ["user"]; // a name under [policy.NAME.metadata]
    let keys: Vec<_> = keys.filter(|key| !of_the_process.contains(key)).collect();
    assert!(keys.len() > 40, "{keys:?}");
    for key in keys.into_iter().filter(|key| !of_an_example.contains(key)) {
        assert!(builder.contains(&format!("(\"{key}\"")), "no method of the builder says {key}");
    }
}

/// What a guide says to depend on is what it is compiled with here.
#[test]
fn the_guides_name_the_versions_that_they_are_tested_with() {
    let manifest: toml::Table = read(&root().join("Cargo.toml")).parse().unwrap();
    let version = |table: &toml::Table, name: &str| {
        let value = table.get(name)?;
        let value = value.get("version").unwrap_or(value);
        value.as_str().map(str::to_owned)
    };
    let tested = |name: &str| {
        let tables = ["dev-dependencies", "dependencies", "package"];
        let mut tables = tables.iter().filter_map(|it| manifest.get(*it)?.as_table());
        tables.find_map(|table| version(table, name))
    };
    let mut count = 0;
    for name in ["axum_service", "tonic_service", "elsewhere", "testing_your_service"] {
        let page = read(&root().join("src/guide").join(name).with_extension("md"));
        for block in page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()) {
            let block: toml::Table = block.parse().unwrap();
            let inner = block.values().filter_map(toml::Value::as_table);
            let vidimus = |table: &toml::Table| table.contains_key("vidimus");
            for table in inner.chain([&block]).filter(|table| vidimus(table)) {
                for name in table.keys() {
                    let said = version(table, name).unwrap();
                    let expected = match &**name {
                        "vidimus" => tested("version").unwrap(),
                        name => tested(name).unwrap_or_else(|| panic!("{name} is not tested")),
                    };
                    assert!(
                        format!("{expected}.").starts_with(&format!("{said}.")),
                        "{name} {said}"
                    );
                    count += 1;
                }
            }
        }
    }
    assert!(count > 8, "{count}");
}

#[test]
fn what_a_newcomer_types_is_what_the_documents_say() {
    let readme = read(&root().join("README.md"));
    for text in ["cargo run --release -- demo", "cargo run --release -- serve", "tests/run"] {
        assert!(readme.contains(text), "README.md lacks {text}");
    }
}

/// Every relative link leads to a file, and if it names one, to a heading in it.
#[test]
fn links_in_the_documents_lead_somewhere() {
    let mut documents = vec![root().join("deploy/README.md")];
    for name in ["README", "ARCHITECTURE", "CONTRIBUTING", "CHANGELOG", "SECURITY"] {
        documents.push(root().join(name).with_extension("md"));
    }
    let guides = std::fs::read_dir(root().join("deploy/guide")).unwrap();
    documents.extend(guides.map(|entry| entry.unwrap().path()));
    let mut count = 0;
    for document in &documents {
        let text = prose(document);
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            if link.starts_with("https://") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => document.clone(),
                file => document.parent().unwrap().join(file),
            };
            assert!(target.exists(), "{}: {link} leads nowhere", document.display());
            let found = heading.is_empty() || anchors(&target).iter().any(|it| it == heading);
            assert!(found, "{}: no heading for {link}", document.display());
            count += 1;
        }
    }
    assert!(count > 80, "{count} links");
}

/// A document without its blocks of code.
fn prose(document: &Path) -> String {
    let text = read(document);
    text.split("\n```").step_by(2).collect::<Vec<_>>().join("\n")
}

/// The headings of a document, as GitHub makes anchors of them.
fn anchors(document: &Path) -> Vec<String> {
    let text = prose(document);
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let headings = headings.map(|line| line.trim_start_matches('#').trim().to_lowercase());
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    headings
        .map(|heading| heading.chars().filter(kept).collect::<String>().replace(' ', "-"))
        .collect()
}

/// What one of nginx' files learns the others must learn too: they differ in where requests come from.
#[test]
fn the_files_for_nginx_do_not_drift_apart() {
    let lines = |file: &str| {
        let text = read(&root().join("deploy").join(file));
        let lines = text.lines().map(|line| line.split(" #").next().unwrap());
        let lines = lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        let own =
            ["'$request_time", "'verify=", "listen", "set_real_ip_from", "real_ip_header", "ssl_"];
        let own = own.into_iter().chain(["proxy_set_header ssl-client-cert $"]);
        let common = |line: &str| !own.clone().any(|own| line.starts_with(own));
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#') && common(line));
        let mut lines: Vec<_> = lines
            .map(|line| line.replace("X-Forwarded-Proto https", "X-Forwarded-Proto $scheme"))
            .collect();
        lines.sort();
        lines
    };
    let plain = lines("nginx/nginx.conf");
    assert!(plain.len() > 100, "{plain:#?}");
    for file in ["nginx/mutual-tls.conf", "apache/nginx-behind-apache.conf"] {
        let mut own = lines(file);
        for line in &plain {
            match own.iter().position(|other| other == line) {
                Some(place) => _ = own.remove(place),
                None => panic!("{file} lacks `{line}` of nginx.conf"),
            }
        }
        assert!(own.is_empty(), "nginx.conf lacks {own:#?} of {file}");
    }
}

/// The lines of a file without comments and indentation.
fn lines(file: &str) -> Vec<String> {
    let text = read(&root().join("deploy").join(file));
    let lines = text.lines().map(|line| line.split(" #").next().unwrap());
    let lines = lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

/// README's lines for nginx include these: they say what nginx.conf says in one file.
#[test]
fn the_files_to_include_are_parts_of_the_one_for_nginx() {
    let whole = lines("nginx/nginx.conf");
    let (server, location) =
        (lines("nginx/vidimus/server.conf"), lines("nginx/vidimus/location.conf"));
    let own = "add_header Retry-After 5 always;"; // a map has no place in a server
    for line in server.iter().chain(&location).filter(|line| *line != own) {
        assert!(whole.contains(line), "nginx.conf lacks `{line}` of the files to include");
    }
    let orders = whole.iter().skip_while(|line| *line != "location /orders/ {").skip(1);
    let orders = orders.take_while(|line| *line != "}");
    let here = |line: &str| line.starts_with("auth_request ") || line.starts_with("proxy_pass ");
    for line in orders.filter(|line| !here(line)) {
        assert!(location.contains(line), "location.conf lacks `{line}` of nginx.conf");
    }
    for line in whole.iter().filter(|line| line.starts_with("auth_request_set ")) {
        let has = server.contains(line) || line.contains("$vidimus_retry_after");
        assert!(has, "server.conf lacks `{line}` of nginx.conf");
    }
}

/// Envoy's file without TLS is the one with it, less what is about certificates.
#[test]
fn the_files_for_envoy_do_not_drift_apart() {
    let (plain, mut whole) = (lines("envoy/envoy.yaml"), lines("envoy/mutual-tls.yaml"));
    assert!(plain.len() > 80, "{plain:#?}");
    for line in plain {
        let other = match &*line {
            "- filters:" => "filters:".to_owned(),
            "request_headers_to_remove: [authorization]" => {
                "request_headers_to_remove: [authorization, x-forwarded-client-cert]".to_owned()
            }
            line => line.replace("port_value: 8080", "port_value: 8443"),
        };
        match whole.iter().position(|line| *line == other) {
            Some(place) => _ = whole.remove(place),
            None => panic!("mutual-tls.yaml lacks `{other}` of envoy.yaml"),
        }
    }
    let rest = whole.join("\n");
    assert!(rest.starts_with("- transport_socket:") && whole.len() < 25, "envoy.yaml lacks {rest}");
}
