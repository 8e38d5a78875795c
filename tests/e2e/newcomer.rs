//! What a newcomer copies, as it is: README's lines for nginx and for Envoy, and Envoy's file without TLS. The
//! demo stands in for Keycloak and is the sidecar.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::caller::Answer;
use crate::demo::{sh, token};
use crate::everyday::FORGED;
use crate::mutual_tls::envoy::envoy;
use crate::mutual_tls::guarded::ODD;
use crate::nginx::{FOLDERS, SITE, command};
use crate::process::{Server, until};
use crate::service::{Arrived, Service, own_body};
use crate::sidecar::VIDIMUS;
use crate::table::Table;
use crate::tokens;

/// What services read that were written for oauth2-proxy. Vidimus sets none of them.
pub(crate) const OTHERS: [(&str, &str); 2] =
    [("X-Auth-Request-Groups", "admin"), ("X-Auth-Request-Access-Token", "forged")];

struct Kind {
    name: &'static str,
    /// Where the demo listens.
    listen: &'static str,
    /// Makes its files in the folder. Is told where the demo came to listen.
    edge: fn(&Path, &str) -> Command,
    /// What it says without Vidimus.
    without: &'static str,
}

const KINDS: [Kind; 3] = [
    Kind {
        name: "deploy/envoy/envoy.yaml",
        listen: "unix:run/vidimus/edge.sock",
        edge: |_, _| {
            envoy(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/envoy/envoy.yaml")))
        },
        without: "503, Retry-After 5",
    },
    Kind {
        name: "README's lines for Envoy",
        listen: "127.0.0.1:0",
        edge: envoy_of_readme,
        without: "503, Retry-After ; the body is no JSON refusal: ",
    },
    Kind {
        name: "README's lines for nginx",
        listen: "127.0.0.1:0",
        edge: nginx_of_readme,
        without: "503, Retry-After 5",
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn what_a_newcomer_copies_lets_nobody_by() {
    let table = Table::new();
    for kind in &KINDS {
        table.area(kind.name);
        let mut service = Service::start().await;
        if let Err(error) = TcpListener::bind(SITE) {
            panic!("{} listens at {SITE}, where another process does: {error}", kind.name);
        }
        let folder = tempfile::tempdir().expect("a scratch folder");
        for name in FOLDERS {
            fs::create_dir_all(folder.path().join(name)).expect("a scratch folder");
        }
        let demo = Demo::start(folder.path(), kind.listen).await;
        let log = folder.path().join("edge.log");
        let mut command = (kind.edge)(folder.path(), &demo.address);
        let mut edge = Server::start(&mut command, folder.path(), &log);
        let accepts = edge.accepts(|| TcpStream::connect(SITE).is_ok()).await;
        assert!(accepts, "{}: {}", kind.name, fs::read_to_string(&log).unwrap_or_default());
        Scene { kind, demo, service: &service, table: &table }.all().await;
        service.stop().await;
    }
    table.finish();
}

struct Demo {
    server: Server,
    /// `HOST:PORT`, if it listens at one.
    address: String,
    good: String,
    admin: String,
    expired: String,
}

impl Demo {
    async fn start(folder: &Path, listen: &str) -> Self {
        let log = folder.join("demo.log");
        let mut command = Command::new(VIDIMUS);
        command.args(["demo", "--listen", listen, "--admin", "127.0.0.1:0"]);
        command.args(["--issuer-listen", "127.0.0.1:0"]);
        let server = Server::start(&mut command, folder, &log);
        let read = || fs::read_to_string(&log).unwrap_or_default();
        let printed = until(Duration::from_secs(20), async || {
            let text = read();
            text.contains("It stays up").then_some(text)
        });
        let printed = printed.await.unwrap_or_else(|| panic!("no table: {}", read()));
        let curl = printed.lines().find_map(|line| line.strip_suffix("/auth"));
        let address = curl.and_then(|line| line.rsplit_once("http://")).expect("a curl line").1;
        let function = token(&printed);
        let sample =
            async |name: &str| sh(&format!("{function}\ntoken {name}")).await.trim().to_owned();
        let (good, admin, expired) =
            (sample("good").await, sample("admin").await, sample("expired").await);
        Self { server, address: address.to_owned(), good, admin, expired }
    }
}

struct Scene<'a> {
    kind: &'a Kind,
    demo: Demo,
    service: &'a Service,
    table: &'a Table,
}

impl Scene<'_> {
    async fn all(self) {
        self.identity().await;
        self.refusals().await;
        self.paths().await;
        let Self { kind, demo, service, table } = self;
        drop(demo.server); // waits until it has ended
        let before = service.count();
        let answer = ask("/orders/", &[("Authorization", &format!("Bearer {}", demo.good))]).await;
        let got = format!("{} {}", answer.told(), service.count() - before);
        table.same("without Vidimus", &format!("{} 0", kind.without), &got);
    }

    /// The service gets what the token says, whatever else the client says of itself. Instead of taking a
    /// name out the edge may refuse.
    async fn identity(&self) {
        let bearer = format!("Bearer {}", self.demo.good);
        let expected = format!("200 {}", tokens::identity(&self.demo.good).join(" "));
        self.table.same(
            "a good token",
            &expected,
            &self.passed("/orders/good", &bearer, &[]).await,
        );
        let mut others = Vec::new();
        let forged = FORGED.iter().chain(&OTHERS);
        for (number, header) in forged.clone().enumerate() {
            let path = format!("/orders/forged-{number}");
            let got = self.passed(&path, &bearer, &[*header]).await;
            if got != expected && got != "400" {
                others.push(format!("{}: {got}", header.0));
            }
        }
        let case = format!("each of {} forged identity headers", forged.count());
        let got = format!("{} got through {}", others.len(), others.join("; "));
        self.table.same(&case, "0 got through", got.trim_end());
    }

    async fn refusals(&self) {
        let Demo { good, admin, expired, .. } = &self.demo;
        let expired = format!("Bearer {expired}");
        let (good, admin) = (format!("Bearer {good}"), format!("Bearer {admin}"));
        let before = self.service.count();
        for (case, path, headers, expected) in [
            ("no token", "/orders/", &[][..], "401"),
            ("expired", "/orders/", &[("Authorization", &*expired)], "401"),
            ("/admin/ without its role", "/admin/", &[("Authorization", &*good)], "403, or 404"),
            (
                "two tokens",
                "/orders/",
                &[("Authorization", &*good), ("Authorization", "Bearer another")],
                "400, or 401",
            ),
        ] {
            let got = ask(path, headers).await.status.to_string();
            self.table.judged(case, expected, &got, expected.contains(&got));
        }
        let arrived = (self.service.count() - before).to_string();
        self.table.same("of these the service got", "0", &arrived);
        if self.kind.name != KINDS[2].name {
            let got = self.passed("/admin/x", &admin, &[]).await;
            self.table.judged("/admin/ with its role", "200", &got, got.starts_with("200"));
        }
    }

    /// `/admin/` wants a role that this token lacks.
    async fn paths(&self) {
        let bearer = format!("Bearer {}", self.demo.good);
        let before = self.service.count();
        let mut others = Vec::new();
        for path in ODD {
            let answer = ask(path, &[("Authorization", &*bearer)]).await;
            if !(400..500).contains(&answer.status) {
                others.push(format!("{path}: {}", answer.page()));
            }
        }
        let got = format!("{} arrived {}", self.service.count() - before, others.join("; "));
        let case = format!("{} paths that some services read as /admin/", ODD.len());
        self.table.same(&case, "0 arrived", got.trim_end());
    }

    /// Status, and the identity that the service got with it, which must be without the token.
    async fn passed(&self, path: &str, bearer: &str, headers: &[(&str, &str)]) -> String {
        let all: Vec<_> = [("Authorization", bearer)].iter().chain(headers).copied().collect();
        let answer = ask(path, &all).await;
        match (answer.status, self.service.arrived(path)) {
            (200, Some(arrived)) if !answer.body.contains(&own_body(200)) => {
                format!("200, not of the service: {} {:?}", answer.body, arrived.method)
            }
            (200, Some(arrived)) if arrived.headers.contains_key("authorization") => {
                "200, and the service got the token".to_owned()
            }
            (200, arrived) => {
                let identity = arrived.as_ref().map(Arrived::identity).unwrap_or_default();
                format!("200 {}", identity.join(" "))
            }
            (status, None) => status.to_string(),
            (status, Some(_)) => format!("{status}, but the service got the request"),
        }
    }
}

/// As it stands here: no library in between makes another path of it.
async fn ask(path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    request += "\r\n";
    let answer = async {
        let mut stream = tokio::net::TcpStream::connect(SITE).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = match timeout(Duration::from_secs(10), answer).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Answer { body: error.to_string(), ..Answer::default() },
        Err(_) => return Answer { body: "no answer in time".to_owned(), ..Answer::default() },
    };
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let mut headers = HeaderMap::new();
    for (name, value) in head.lines().filter_map(|line| line.split_once(": ")) {
        let (name, value) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>());
        headers.append(name.expect("a name"), value.expect("a value"));
    }
    Answer { status, headers, body: body.to_owned() }
}

/// The first block of README in this language in which this stands.
fn block(language: &str, what: &str) -> String {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = fs::read_to_string(readme).expect("README.md");
    let begin = format!("\n```{language}\n");
    let mut blocks = readme.split(&*begin).skip(1);
    let found = blocks.find_map(|rest| rest.split("\n```").next().filter(|it| it.contains(what)));
    found.unwrap_or_else(|| panic!("README.md has no {language} with {what}")).to_owned()
}

fn nginx_of_readme(folder: &Path, vidimus: &str) -> Command {
    let include = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/nginx/vidimus");
    fs::create_dir(folder.join("vidimus")).expect("a scratch folder");
    for name in ["server.conf", "location.conf"] {
        let to = folder.join("vidimus").join(name);
        fs::copy(Path::new(include).join(name), to).expect("a copy");
    }
    let lines = block("nginx", "auth_request").replace("127.0.0.1:9180", vidimus);
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary = temporary.map(|it| format!("{it}_temp_path {it};\n")).concat();
    let text = format!(
        "pid nginx.pid;\nerror_log error.log;\nevents {{}}\nhttp {{\naccess_log off;\n{temporary}{lines}\n}}\n"
    );
    let file = folder.join("nginx.conf");
    fs::write(&file, text).expect("a scratch file");
    command(folder, &file)
}

/// With a listener around the one block, and the service's cluster beside the other.
fn envoy_of_readme(folder: &Path, vidimus: &str) -> Command {
    let indented = |text: String, by: usize| {
        text.lines().map(|line| format!("{:by$}{line}\n", "")).collect::<String>()
    };
    let port = vidimus.rsplit(':').next().expect("a port");
    let manager = indented(block("yaml", "http_filters:"), 10);
    let clusters = block("yaml", "- name: vidimus").replace("9180", port);
    let text = format!(
        r#"static_resources:
  listeners:
  - name: site
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: 8080 }} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: site
{manager}
  clusters:
{}
  - name: orders
    load_assignment:
      cluster_name: orders
      endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: 8081 }} }} }} }}] }}]
"#,
        indented(clusters, 2)
    );
    let file = folder.join("envoy.yaml");
    fs::write(&file, text).expect("a scratch file");
    envoy(&file)
}
