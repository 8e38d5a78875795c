//! What a client sends who would like to hold another's certificate: every header by which some proxy
//! forwards one, with that certificate in that proxy's spelling.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use ring::digest::{SHA256, digest};

use crate::certificates::Certificates;

/// Headers of one request.
pub(crate) type Headers = Vec<(String, String)>;

/// The requests, each with this certificate under another name or in another spelling.
pub(crate) fn of(certificates: &Certificates, name: &str) -> Vec<Headers> {
    let (pem, der) = (certificates.pem(name), certificates.der(name));
    let (base64, escaped) = (STANDARD.encode(&der), escaped(&pem));
    let hash: String =
        digest(&SHA256, &der).as_ref().iter().map(|it| format!("{it:02x}")).collect();
    let spellings = [
        ("ssl-client-cert", escaped.clone()),                   // nginx
        ("ssl-client-cert", pem.trim_end().replace('\n', " ")), // Apache
        ("ssl-client-cert", format!("\"{base64}\"")),           // HAProxy
        ("x-forwarded-client-cert", format!("Hash={hash}")),    // Envoy
        ("x-forwarded-client-cert", format!("Hash={hash};Cert=\"{escaped}\"")),
        ("client-cert", format!(":{base64}:")), // RFC 9440
        ("x-forwarded-tls-client-cert", base64.clone()), // Traefik
        ("x-amzn-mtls-clientcert-leaf", escaped.clone()), // AWS
        ("x-client-cert-sha256", hash.clone()), // Caddy
    ];
    let mut requests = Vec::new();
    for (name, value) in spellings {
        // Some servers read all three as one name.
        for name in [name.to_owned(), name.replace('-', "_"), name.replace('-', ".")] {
            requests.push(vec![(name.clone(), value.clone())]);
            // Whoever overwrites the first leaves the second.
            requests.push(vec![(name.clone(), value.clone()), (name, value.clone())]);
        }
    }
    requests
}

/// The same once more, each beside `Connection` with its name. A header that is named there is for the
/// next hop alone (RFC 9110 §7.6.1): some proxies then take out their own.
pub(crate) fn hop_by_hop(certificates: &Certificates, name: &str) -> Vec<Headers> {
    let mut requests = of(certificates, name);
    for headers in &mut requests {
        let name = headers[0].0.replace(['_', '.'], "-");
        headers.insert(0, ("connection".to_owned(), name));
    }
    requests
}

/// Those of these headers that have arrived, under any spelling.
pub(crate) fn arrived(sent: &[(String, String)], headers: &HeaderMap) -> BTreeSet<String> {
    let plain = |name: &str| name.replace(['_', '.'], "-");
    let sent = sent.iter().map(|(name, _)| plain(name)).filter(|name| name != "connection");
    let sent: BTreeSet<String> = sent.collect();
    headers.keys().map(|name| plain(name.as_str())).filter(|name| sent.contains(name)).collect()
}

/// As `$ssl_client_escaped_cert` does it.
fn escaped(text: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let escape = |byte| match keep(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}
