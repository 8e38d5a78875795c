//! `[[realm]]`.

use std::time::Duration;

use url::Url;

use super::reader::{At, Errors, Section};
use crate::check::{Algorithm, AudienceRule, RealmRules};
use crate::issuer::{ClientAuth, IntrospectionSettings, IssuerSettings};

pub(super) const HOUR: Duration = Duration::from_secs(3600);
pub(super) const SECOND: Duration = Duration::from_secs(1);

/// Names stand in metrics, challenges and addresses.
pub(super) const NAME: &str = "1 to 64 letters, digits, `.`, `_` or `-`";

pub(super) fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(plain)
}

/// Reads a URL. A password in it is not repeated, not even if it is no good URL.
pub(super) fn address(at: &At<String>, allowed: &str, errors: &mut Errors) -> Option<Url> {
    let url = Url::parse(&at.value).ok();
    let has_user = |url: &Url| url.password().is_some() || !url.username().is_empty();
    if url.as_ref().map_or_else(|| at.value.contains('@'), has_user) {
        let allowed = "a URL without: it would stand in logs";
        errors.push(at.error("a URL with a user or password", allowed));
        return None;
    }
    if url.is_none() {
        errors.push(at.error(format_args!("{:?}", at.value), allowed));
    }
    url
}

/// Reads one realm. With a mistake in it, `errors` has it and the result is not used.
pub(super) fn read(
    mut realm: Section<'_>,
    errors: &mut Errors,
) -> (RealmRules, IssuerSettings, At<()>) {
    let place = realm.here("issuer");
    let issuer = realm.text("issuer", errors);
    if issuer.is_none() && !errors.iter().any(|error| error.path == place.path) {
        errors.push(place.error("nothing", ISSUER));
    }
    let given = issuer.is_some();
    let issuer = issuer.unwrap_or_else(|| At {
        value: String::new(),
        path: place.path.clone(),
        line: place.line,
    });
    let read = if given { address(&issuer, ISSUER, errors) } else { None };
    let is_url = read.is_some();
    let url = read.filter(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.query().is_none()
            && url.fragment().is_none()
            && issuer.value.trim() == issuer.value // which a URL reader would overlook
    });
    if is_url && url.is_none() {
        errors.push(issuer.error(format_args!("{:?}", issuer.value), ISSUER));
    }

    let mut rules = RealmRules::new(&issuer.value);
    let named = realm.text("name", errors);
    if let Some(name) = &named {
        rules.name = name.value.as_str().into();
    }
    if !is_name(&rules.name) && url.is_some() {
        let place = named.unwrap_or_else(|| At { value: String::new(), ..issuer.clone() });
        errors
            .push(place.error(format_args!("the name {:?}", rules.name), format!("name = {NAME}")));
    }

    rules.audience = audience(&mut realm, errors);
    if let Some(algorithms) = realm.items::<Algorithm>("algorithms", &algorithms_allowed(), errors)
    {
        rules.algorithms = algorithms;
    }
    rules.leeway = realm.duration("leeway", rules.leeway, Duration::ZERO..300 * SECOND, errors);
    if let Some(types) = realm.items::<HeaderType>("header_types", "\"JWT\", \"at+jwt\"", errors) {
        rules.header_types = types.into_iter().map(|kind| kind.0).collect();
    }

    let fetch_base = realm.text("fetch_base", errors);
    let base_url = fetch_base.as_ref().and_then(|base| {
        const ALLOWED: &str = "an inside address of the issuer, such as \"https://keycloak:8443\"";
        let url = address(base, ALLOWED, errors)?;
        let good = matches!(url.scheme(), "http" | "https")
            && url.query().is_none()
            && url.fragment().is_none();
        if !good {
            errors.push(base.error(format_args!("{:?}", base.value), ALLOWED));
        }
        good.then_some(url)
    });
    let insecure_http = realm.flag("insecure_http", errors);
    let (asked, asked_at) = match &fetch_base {
        Some(base) => {
            (base_url.as_ref(), At { value: (), path: base.path.clone(), line: base.line })
        }
        None => (url.as_ref(), At { value: (), path: issuer.path.clone(), line: issuer.line }),
    };
    if let Some(asked) = asked
        && let Err(error) = crate::issuer::check_secure(asked, insecure_http)
    {
        let found = format!("{asked}: {error}");
        let allowed = "https; http to this machine; or insecure_http = true beside it";
        errors.push(asked_at.error(found, allowed));
    }

    let ca_file = realm.text("ca_file", errors);
    if let Some(file) = &ca_file
        && let Err(reason) = crate::issuer::check_ca_file(file.value.as_ref())
    {
        errors.push(file.error(reason, "a file of PEM certificates that this user may read"));
    }

    let mut jwks = realm.section("jwks", errors);
    let refresh = jwks.duration("refresh", 300 * SECOND, 10 * SECOND..24 * HOUR, errors);
    let cooldown = jwks.duration("cooldown", 10 * SECOND, SECOND..HOUR, errors);
    rules.max_stale =
        jwks.duration("max_stale", rules.max_stale, 60 * SECOND..30 * 24 * HOUR, errors);
    if rules.max_stale < refresh * 2 {
        let stale = humantime::format_duration(rules.max_stale).to_string();
        let place = jwks.here("max_stale");
        errors.push(
            place.error(stale, "at least twice `refresh`: one slow fetch must not be an outage"),
        );
    }
    jwks.end(errors);
    let mut introspection = None;
    if realm.has("introspection") {
        let section = realm.section("introspection", errors);
        introspection = Some(super::introspection::read(section, insecure_http, errors));
    } else {
        realm.section("introspection", errors);
    }
    realm.end(errors);
    let (rules_of, settings_of) = introspection.unzip();
    if let (Some(asked), Some(IntrospectionSettings { auth: ClientAuth::Tls { .. }, endpoint, .. })) =
        (asked, &settings_of)
        && endpoint.as_ref().unwrap_or(asked).scheme() == "http"
    {
        let allowed = "https, if the client proves itself with a certificate (tls_client_auth)";
        errors.push(asked_at.error(format_args!("{asked}"), allowed));
    }
    rules.introspection = rules_of;

    let settings = IssuerSettings {
        name: rules.name.clone(),
        issuer: rules.issuer.clone(),
        fetch_base: base_url,
        ca_file: ca_file.map(|file| file.value.into()),
        insecure_http,
        refresh,
        cooldown,
        introspection: settings_of,
    };
    (rules, settings, At { value: (), path: issuer.path, line: issuer.line })
}

const ISSUER: &str = "the realm's URL exactly as it stands in `iss`, such as \
                      \"https://id.example.com/realms/shop\"";

fn audience(realm: &mut Section<'_>, errors: &mut Errors) -> AudienceRule {
    let place = realm.here("audience");
    let given = realm.has("audience");
    let names =
        realm.items::<NonEmpty>("audience", "client ids: audience = [\"orders-api\"]", errors);
    let any = realm.flag("insecure_any_audience", errors);
    match (given, any) {
        (false, false) => {
            errors.push(place.error(
                "nothing",
                "audience = [\"CLIENT-ID\"], what `aud` of your tokens must hold (in Keycloak an \
                 audience mapper puts it there), or insecure_any_audience = true",
            ));
        }
        (true, true) => {
            errors.push(place.error("both audience and insecure_any_audience", "one of them"));
        }
        _ => {}
    }
    match any {
        true => AudienceRule::InsecureAny,
        false => AudienceRule::OneOf(
            names.unwrap_or_default().into_iter().map(|name| name.0.into()).collect(),
        ),
    }
}

fn algorithms_allowed() -> String {
    let names = Algorithm::list();
    format!("{names}; symmetric ones (HS*) and none are never accepted")
}

/// Any text but an empty one.
pub(super) struct NonEmpty(pub(super) String);

impl std::str::FromStr for NonEmpty {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if text.is_empty() { Err(()) } else { Ok(Self(text.to_owned())) }
    }
}

struct HeaderType(String);

impl std::str::FromStr for HeaderType {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+-./".contains(&byte);
        if !text.is_empty() && text.bytes().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(())
        }
    }
}
