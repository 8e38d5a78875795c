//! Where a realm's keys are, and where it answers about tokens: OpenID Connect Discovery 1.0 §4, RFC 8414
//! §3.

use url::Url;

use super::IssuerSettings;
use super::client_auth::ClientAuth;
use super::http::{Client, Failure, FetchError, check_secure, get};
use crate::check::{Json, JsonLimits, JsonRef};

/// What a realm says about itself, as far as it matters here.
pub(super) struct Metadata {
    pub(super) jwks: Url,
    pub(super) endpoints: Endpoints,
}

/// Where a realm answers about tokens. What is wrong about it is told when it is needed: without
/// introspection it does no harm.
#[derive(Clone)]
pub(super) struct Endpoints {
    introspection: Result<Url, Unusable>,
    /// For clients that prove themselves with a certificate (RFC 8705 §5).
    by_certificate: Option<Result<Url, Unusable>>,
    /// Where our client gets a token of its own: for `vidimus doctor`.
    pub(super) token: Option<Url>,
    /// Whether it makes signed answers (RFC 9701 §7).
    pub(super) signs: bool,
}

/// Why an endpoint cannot be used.
#[derive(Clone, Copy)]
enum Unusable {
    Missing,
    NoUrl,
    Insecure,
}

/// Where to ask about a token.
pub(super) struct Endpoint {
    pub(super) url: Url,
    /// Whether the realm makes signed answers.
    pub(super) signs: bool,
}

impl Endpoints {
    /// Where a client asks that proves itself in this way.
    pub(super) fn introspection(&self, auth: &ClientAuth) -> Result<Endpoint, FetchError> {
        let by_certificate = self.by_certificate.as_ref();
        let by_certificate = by_certificate.filter(|_| matches!(auth, ClientAuth::Tls { .. }));
        match by_certificate.unwrap_or(&self.introspection) {
            Ok(url) => Ok(Endpoint { url: url.clone(), signs: self.signs }),
            Err(Unusable::Missing) => Err(FetchError::Metadata("lack `introspection_endpoint`")),
            Err(Unusable::NoUrl) => {
                Err(FetchError::Metadata("have a bad `introspection_endpoint`"))
            }
            Err(Unusable::Insecure) => Err(FetchError::Insecure),
        }
    }
}

/// Asks for the metadata.
pub(super) async fn metadata(
    client: &Client,
    settings: &IssuerSettings,
) -> Result<Metadata, Failure> {
    let url = metadata_url(settings)?;
    let body = get(client, &url).await?;
    let metadata = read(body, settings).map_err(|error| error.at(&url))?;
    let jwks = &metadata.jwks;
    check_secure(jwks, settings.insecure_http).map_err(|error| error.at(jwks))?;
    Ok(metadata)
}

fn read(body: Vec<u8>, settings: &IssuerSettings) -> Result<Metadata, FetchError> {
    let metadata = Json::parse(body, JsonLimits::ISSUER).map_err(FetchError::Malformed)?;
    let text = |name: &str| metadata.root().get(name).and_then(JsonRef::as_str);

    // RFC 8414 §3.3: identical, or the metadata MUST NOT be used.
    match text("issuer") {
        Some(issuer) if issuer == &*settings.issuer => {}
        Some(other) => return Err(FetchError::OtherIssuer(other.chars().take(256).collect())),
        None => return Err(FetchError::Metadata("lack `issuer`")),
    }
    let jwks = text("jwks_uri").ok_or(FetchError::Metadata("lack `jwks_uri`"))?;
    let jwks = Url::parse(jwks).map_err(|_| FetchError::Metadata("have a bad `jwks_uri`"))?;
    if !jwks.username().is_empty() || jwks.password().is_some() {
        return Err(FetchError::Metadata("have a `jwks_uri` with a user or password"));
    }
    let endpoint = |text: Option<&str>| {
        let url = Url::parse(text.ok_or(Unusable::Missing)?).map_err(|_| Unusable::NoUrl)?;
        let plain = url.username().is_empty() && url.password().is_none();
        let url = inside(url, settings);
        match check_secure(&url, settings.insecure_http) {
            Ok(()) if plain => Ok(url),
            Err(FetchError::Insecure) => Err(Unusable::Insecure),
            Ok(()) | Err(_) => Err(Unusable::NoUrl),
        }
    };
    let aliases = metadata.root().get("mtls_endpoint_aliases");
    let alias = aliases.and_then(|aliases| aliases.get("introspection_endpoint")?.as_str());
    let endpoints = Endpoints {
        introspection: endpoint(text("introspection_endpoint")),
        by_certificate: alias.map(|alias| endpoint(Some(alias))),
        token: endpoint(text("token_endpoint")).ok(),
        signs: metadata.root().get("introspection_signing_alg_values_supported").is_some(),
    };
    Ok(Metadata { jwks: inside(jwks, settings), endpoints })
}

fn metadata_url(settings: &IssuerSettings) -> Result<Url, FetchError> {
    let issuer = settings.issuer.trim_end_matches('/');
    let url = Url::parse(&format!("{issuer}/.well-known/openid-configuration"))
        .map_err(|_| FetchError::Metadata("have no address: `issuer` is not a URL"))?;
    let url = inside(url, settings);
    check_secure(&url, settings.insecure_http)?;
    Ok(url)
}

/// The same place by the inside address: Keycloak's metadata name its public host, which may not be
/// reachable from here.
fn inside(url: Url, settings: &IssuerSettings) -> Url {
    let Some(base) = &settings.fetch_base else { return url };
    let public = Url::parse(&settings.issuer);
    if !public.is_ok_and(|public| public.origin() == url.origin()) {
        return url;
    }
    let mut moved = base.clone();
    moved.set_path(&format!("{}{}", base.path().trim_end_matches('/'), url.path()));
    moved.set_query(url.query());
    moved
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(issuer: &str, base: Option<&str>, insecure_http: bool) -> IssuerSettings {
        IssuerSettings {
            fetch_base: base.map(|base| base.parse().unwrap()),
            insecure_http,
            ..IssuerSettings::new(issuer)
        }
    }

    #[test]
    fn finds_the_metadata_at_the_issuer_or_inside() {
        let at = |issuer: &str, base: Option<&str>, insecure: bool| {
            metadata_url(&settings(issuer, base, insecure)).map(|url| url.to_string()).ok()
        };
        let path = "/realms/shop/.well-known/openid-configuration";
        let public = "https://id.example.com/realms/shop";
        assert_eq!(at(public, None, false), Some(format!("https://id.example.com{path}")));
        assert_eq!(
            at(&format!("{public}/"), None, false),
            Some(format!("https://id.example.com{path}"))
        );
        assert_eq!(
            at(public, Some("https://kc:8443"), false),
            Some(format!("https://kc:8443{path}"))
        );
        assert_eq!(
            at(public, Some("https://kc/auth/"), false),
            Some(format!("https://kc/auth{path}"))
        );
        assert_eq!(at(public, Some("http://kc:8080"), true), Some(format!("http://kc:8080{path}")));
        assert_eq!(
            at(public, Some("http://kc:8080"), false),
            None,
            "plain http to another machine"
        );
        assert_eq!(at("http://id.example.com/realms/shop", None, false), None);
        for host in ["127.0.0.1:8080", "localhost:8080", "[::1]:8080"] {
            let issuer = format!("http://{host}/realms/shop");
            assert!(at(&issuer, None, false).is_some(), "{host}");
        }
        for host in
            ["localhost.example.com", "a.localhost", "127.0.0.1.example.com", "10.0.0.1", "0.0.0.0"]
        {
            assert_eq!(at(&format!("http://{host}/realms/shop"), None, false), None, "{host}");
        }
        assert_eq!(at("ftp://id.example.com", None, true), None);
    }

    #[test]
    fn keys_kept_elsewhere_stay_elsewhere() {
        let settings = settings("https://id.example.com", Some("https://kc:8443"), false);
        let move_to = |url: &str| inside(url.parse().unwrap(), &settings).to_string();
        assert_eq!(move_to("https://id.example.com/certs?a=b"), "https://kc:8443/certs?a=b");
        assert_eq!(move_to("https://keys.example.com/certs"), "https://keys.example.com/certs");
    }
}
