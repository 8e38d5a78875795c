//! `vidimus demo`: the whole of it with nothing else installed.
//!
//! An [embedded issuer](crate::testing), the real sidecar in front of it, and a table of sample checks that
//! were really sent over HTTP.

mod certificate;

use std::fmt::Write as _;
use std::net::SocketAddr;

use anstyle::{AnsiColor, Style};
use reqwest::{Client, ClientBuilder};
use serde_json::Value;

use crate::config::{Config, ListenAddr, Provider};
use crate::server::Server;
use crate::testing::samples::Sample;
use crate::testing::{CLIENT, INTROSPECTOR, Issuer};
use certificate::forwarded;

/// Where the demo listens.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// The sidecar.
    pub listen: ListenAddr,
    /// Its admin.
    pub admin: SocketAddr,
    /// The embedded issuer.
    pub issuer: SocketAddr,
}

/// A demo that is running.
pub struct Demo {
    /// The sidecar.
    pub server: Server,
    /// The realm.
    pub issuer: Issuer,
    provider: Provider,
}

/// Something the demo needs is taken or missing; the text says what and how to go on.
pub type DemoError = Box<dyn std::error::Error + Send + Sync>;

impl Demo {
    /// Starts issuer and sidecar, and waits until there are keys. The sidecar takes client certificates
    /// as this provider forwards them.
    ///
    /// # Errors
    /// If an address is taken.
    pub async fn start(addresses: Addresses, provider: Provider) -> Result<Self, DemoError> {
        let issuer = Issuer::start(addresses.issuer, "demo", Issuer::fresh_keys()?).await.map_err(|error| {
            format!("the demo's issuer cannot listen at {}: {error}; choose another address with --issuer-listen", addresses.issuer)
        })?;
        let config = Config::parse(&configuration(&addresses, provider, issuer.issuer()), "demo")?;
        let server = Server::start(config).await.map_err(|error| {
            format!("{error} (--listen and --admin choose the demo's addresses)")
        })?;
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(5);
        while server.gate().live().load().realms().iter().any(|realm| realm.last_keys().is_none()) {
            if tokio::time::Instant::now() > deadline {
                return Err("the demo's issuer did not answer itself within 5 s".into());
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        Ok(Self { server, issuer, provider })
    }

    /// The address of the sidecar, and what curl needs beside it.
    fn sidecar(&self) -> (String, String) {
        match self.server.addresses().first() {
            Some(ListenAddr::Tcp(address)) => (format!("http://{address}"), String::new()),
            Some(ListenAddr::Unix(path)) => {
                ("http://localhost".to_owned(), format!("--unix-socket {} ", path.display()))
            }
            None => Default::default(), // the demo's own configuration names one
        }
    }

    /// Gets every sample from the token endpoint, presents it, and writes what came back.
    ///
    /// # Errors
    /// If its own issuer or sidecar does not answer.
    pub async fn table(&self) -> Result<String, DemoError> {
        let (client, mut sidecar) = (builder()?.build()?, builder()?);
        if let Some(ListenAddr::Unix(path)) = self.server.addresses().first() {
            sidecar = sidecar.unix_socket(path.as_path());
        }
        let sidecar = sidecar.build()?;
        let token_endpoint = format!("{}/protocol/openid-connect/token", self.issuer.issuer());
        let no_token = Sent { name: "no-token", what: "no token at all", path: "/auth" };
        let mut rows = vec![self.ask(&sidecar, no_token, None, false).await?];
        for sample in &Sample::ALL {
            let form = format!(
                "grant_type=client_credentials&client_id={}&client_secret={}&sample={}",
                CLIENT.0, CLIENT.1, sample.name
            );
            let answer = client
                .post(&token_endpoint)
                .header("content-type", "application/x-www-form-urlencoded")
                .body(form)
                .send()
                .await?;
            let answer: Value = serde_json::from_slice(&answer.bytes().await?)?;
            let token = answer["access_token"].as_str().ok_or("the demo's issuer gave no token")?;
            let Sample { name, what, path, .. } = *sample;
            let sent = Sent { name, what, path };
            rows.push(self.ask(&sidecar, sent, Some(token), sample.certificate).await?);
        }
        Ok(render(&rows))
    }

    async fn ask(
        &self,
        client: &Client,
        sent: Sent,
        token: Option<&str>,
        certificate: bool,
    ) -> Result<Row, DemoError> {
        let mut request = client.get(format!("{}{}", self.sidecar().0, sent.path));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if certificate {
            let (header, certificate) = forwarded(self.provider);
            request = request.header(header, certificate);
        }
        let answer = request.send().await?;
        let status = answer.status().as_u16();
        let header = |name: &str| {
            answer
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
                .unwrap_or("")
                .to_owned()
        };
        let user = header("x-auth-request-preferred-username");
        let why = match status {
            200 => format!("welcome, {user}"),
            _ => {
                let body: Value = serde_json::from_slice(&answer.bytes().await?)?;
                body["error_description"].as_str().unwrap_or("").to_owned()
            }
        };
        Ok(Row { sent, status, why })
    }

    /// Lines to copy into another terminal.
    pub fn curl_lines(&self) -> String {
        let (issuer, (sidecar, socket)) = (self.issuer.issuer(), self.sidecar());
        let ((id, secret), admin) = (CLIENT, self.server.admin());
        let (header, certificate) = forwarded(self.provider);
        format!(
            r#"Try it from another terminal (any name of the first column but no-token is a sample):

  token() {{ curl -s {issuer}/protocol/openid-connect/token \
    -d grant_type=client_credentials -d client_id={id} -d client_secret={secret} -d sample=$1 |
    sed -n 's/.*"access_token":"\([^"]*\)".*/\1/p'; }}

  curl -i {socket}-H "Authorization: Bearer $(token good)"           {sidecar}/auth
  curl -i {socket}-H "Authorization: Bearer $(token expired)"        {sidecar}/auth
  curl -i {socket}-H "Authorization: Bearer $(token opaque)"         {sidecar}/auth
  curl -i {socket}-H "Authorization: Bearer $(token role-missing)"   {sidecar}/auth/admin
  curl -i {socket}-H "Authorization: Bearer $(token stolen)"         {sidecar}/auth
  curl -i {socket}-H "Authorization: Bearer $(token bound)" -H "{header}: {certificate}" {sidecar}/auth
  curl -s http://{admin}/metrics | grep vidimus_decisions

Here curl plays the proxy: {header} counts because it comes from this machine. Behind a proxy of deploy/ no
client can send it. For a token of your own certificate add -d x5t=THUMBPRINT to sample=bound:

  openssl x509 -in client.pem -outform DER | openssl dgst -sha256 -binary | base64 | tr '/+' '_-' | tr -d =
"#
        )
    }
}

/// The sidecar's configuration, as an operator would write it.
fn configuration(addresses: &Addresses, provider: Provider, issuer: &str) -> String {
    let Addresses { listen, admin, .. } = addresses;
    let listen = toml::Value::String(listen.to_string()); // a path may hold quotes
    let ((client, secret), (header, _)) = (INTROSPECTOR, forwarded(provider));
    format!(
        r#"
[server]
listen = [{listen}]
admin = "{admin}"

[[realm]]
issuer = "{issuer}"
audience = ["orders-api"]

[realm.introspection]
client_id = "{client}"
client_secret = "{secret}"

[client_certificate]
provider = "{provider}"
header = "{header}"

[policy.default]

[policy.admin]
roles = ["realm:admin"]
"#
    )
}

struct Sent {
    name: &'static str,
    what: &'static str,
    path: &'static str,
}

struct Row {
    sent: Sent,
    status: u16,
    why: String,
}

/// Colour is taken out again by whoever writes to something that is no terminal.
fn render(rows: &[Row]) -> String {
    let (bold, green, red) =
        (Style::new().bold(), AnsiColor::Green.on_default(), AnsiColor::Red.on_default());
    let mut text = String::new();
    let mut line = |style: Style, name: &str, what: &str, path: &str, status: &str, why: &str| {
        // writing to a String cannot fail
        let _ = writeln!(text, "  {name:<16}{what:<37}{path:<13}{style}{status:<8}{style:#}{why}");
    };
    line(bold, "sample", "what was sent", "asked at", "answer", "why");
    for Row { sent: Sent { name, what, path }, status, why } in rows {
        let style = if *status == 200 { green } else { red };
        line(style, name, what, path, &status.to_string(), why);
    }
    text
}

/// The demo speaks plain http to itself; reqwest wants to be told a TLS provider all the same.
fn builder() -> Result<ClientBuilder, rustls::Error> {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    Ok(Client::builder().no_proxy().tls_backend_preconfigured(tls))
}
