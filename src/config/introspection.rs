//! `[realm.introspection]`.

use std::time::Duration;

use url::Url;

use super::reader::{At, Errors, Section};
use super::realm::{HOUR, SECOND};
use crate::check::{Algorithm, IntrospectionRules, UseFor};
use crate::issuer::{ClientAuth, IntrospectionSettings, Secret, SecretSource, check_credentials};

const WAYS: &str = "\"client_secret_basic\", \"client_secret_post\", \"private_key_jwt\" or \
                    \"tls_client_auth\"";

/// Reads it. With a mistake in it, `errors` has it and the result is not used.
pub(super) fn read(
    mut section: Section<'_>,
    insecure_http: bool,
    errors: &mut Errors,
) -> (IntrospectionRules, IntrospectionSettings) {
    let before = errors.len();
    let place = section.here("client_id");
    let client_id = section.text("client_id", errors).filter(|id| !id.value.is_empty());
    if client_id.is_none() && errors.len() == before {
        let allowed = "the id of a confidential client in the realm: client_id = \"vidimus\"";
        errors.push(place.error("nothing", allowed));
    }
    let client_id = client_id.map(|at| at.value).unwrap_or_default();
    let (auth, place) = client_auth(&mut section, errors).unzip();

    let mut rules = IntrospectionRules::new(&client_id);
    if let Some(list) = section.items::<Kind>("use_for", USE_FOR, errors) {
        let has = |kind| list.contains(&kind);
        let all = has(Kind::All);
        rules.use_for = UseFor {
            all,
            opaque: all || has(Kind::Opaque),
            lightweight: all || has(Kind::Lightweight),
        };
    }
    let ttl = Duration::ZERO..HOUR;
    rules.cache_ttl = section.duration("cache_ttl", rules.cache_ttl, ttl.clone(), errors);
    rules.inactive_ttl = section.duration("inactive_ttl", rules.inactive_ttl, ttl, errors);

    let mut settings = IntrospectionSettings::new(
        &client_id,
        auth.unwrap_or_else(|| ClientAuth::Post(SecretSource::Value(Secret::new("")))),
    );
    let times = Duration::from_millis(100)..5 * SECOND;
    settings.timeout = section.duration("timeout", settings.timeout, times, errors);
    settings.max_concurrent =
        section.number("max_concurrent", settings.max_concurrent, 1..=10_000, errors);
    settings.prefer_jwt = section.flag("prefer_jwt", errors);
    rules.prefer_jwt = settings.prefer_jwt;
    settings.endpoint =
        section.text("endpoint", errors).and_then(|at| endpoint(&at, insecure_http, errors));
    section.end(errors);
    if errors.len() == before
        && let Some(place) = place
        && let Err(reason) = check_credentials(&settings)
    {
        errors
            .push(place.error(reason, "credentials that this user may read, and that fit `auth`"));
    }
    (rules, settings)
}

/// How our client proves itself, and the key of the file or variable that it does so with.
fn client_auth(section: &mut Section<'_>, errors: &mut Errors) -> Option<(ClientAuth, At<()>)> {
    const SECRETS: &str = "client_secret_file, client_secret_env or client_secret";
    let way = section.text("auth", errors);
    let way = way.unwrap_or_else(|| section.here("auth").with(BASIC.to_owned()));
    let secret = secret(section, errors);
    let key_file = section.text("client_key_file", errors);
    let algorithm = section.text("client_key_algorithm", errors);
    let key_id = section.text("client_key_id", errors);
    let certificate_file = section.text("client_certificate_file", errors);

    let place = |given: &Option<At<String>>| given.as_ref().map(At::place);
    let given = [
        (secret.as_ref().map(|(_, at)| at.clone()), &[BASIC, POST][..]),
        (place(&key_file), &[KEY, TLS]),
        (place(&algorithm), &[KEY]),
        (place(&key_id), &[KEY]),
        (place(&certificate_file), &[TLS]),
    ];
    let name = way.value.as_str();
    for (at, ways) in given.iter().filter_map(|(at, ways)| Some((at.as_ref()?, ways))) {
        if [BASIC, POST, KEY, TLS].contains(&name) && !ways.contains(&name) {
            let found = format!("a setting that {name} does not use");
            let ways = ways.iter().map(|way| format!("auth = {way:?}")).collect::<Vec<_>>();
            errors.push(at.error(found, format!("nothing; or {}", ways.join(" or "))));
        }
    }
    let algorithms = Algorithm::list;
    let algorithm = algorithm.map(|at| at.parse::<Algorithm>(&algorithms(), errors));
    let section: &Section<'_> = section;
    let missing = |errors: &mut Errors, key: &str, what: &str| {
        let place = section.here(key);
        if !errors.iter().any(|error| error.path == place.path) {
            errors.push(place.error("nothing", format!("{what}, for {name}")));
        }
    };
    match name {
        BASIC | POST => {
            let Some((secret, at)) = secret else {
                if !errors.iter().any(|error| error.path.contains(".client_secret")) {
                    missing(errors, "client_secret_file", SECRETS);
                }
                return None;
            };
            let auth =
                if name == BASIC { ClientAuth::Basic(secret) } else { ClientAuth::Post(secret) };
            Some((auth, at))
        }
        KEY => {
            if key_file.is_none() {
                missing(errors, "client_key_file", "a file with our private key (PKCS #8, PEM)");
            }
            if algorithm.is_none() {
                missing(errors, "client_key_algorithm", &algorithms());
            }
            let (file, algorithm) = (key_file?, algorithm??);
            let (at, key_id) = (file.place(), key_id.map(|at| at.value));
            Some((ClientAuth::PrivateKey { file: file.value.into(), algorithm, key_id }, at))
        }
        TLS => {
            if certificate_file.is_none() {
                missing(errors, "client_certificate_file", "a file with our certificate (PEM)");
            }
            if key_file.is_none() {
                missing(errors, "client_key_file", "a file with our private key (PEM)");
            }
            let (certificate, key) = (certificate_file?, key_file?);
            let at = certificate.place();
            let (certificate_file, key_file) = (certificate.value.into(), key.value.into());
            Some((ClientAuth::Tls { certificate_file, key_file }, at))
        }
        other => {
            errors.push(way.error(format_args!("{other:?}"), WAYS));
            None
        }
    }
}

const BASIC: &str = "client_secret_basic";
const POST: &str = "client_secret_post";
const KEY: &str = "private_key_jwt";
const TLS: &str = "tls_client_auth";

/// By value, from a file or from the environment: one of them.
fn secret(section: &mut Section<'_>, errors: &mut Errors) -> Option<(SecretSource, At<()>)> {
    const SECRET: &str = "the client's secret in quotes; rather in a file: client_secret_file";
    let value = section.secret("client_secret", SECRET, errors);
    let file = section.text("client_secret_file", errors);
    let variable = section.text("client_secret_env", errors);
    let given: Vec<At<()>> =
        [&value, &file, &variable].into_iter().flatten().map(At::place).collect();
    let at = match &*given {
        [] => return None,
        [at] => at.clone(),
        [first, second, ..] => {
            errors.push(second.error(format_args!("a second secret beside {}", first.path), "one"));
            return None;
        }
    };
    if let Some(variable) = variable {
        return match std::env::var(&variable.value) {
            Ok(secret) if !secret.is_empty() => {
                Some((SecretSource::Value(Secret::new(&secret)), at))
            }
            _ => {
                // A secret that was put here by mistake is not repeated.
                let plain =
                    |byte: u8| byte.is_ascii_uppercase() || byte == b'_' || byte.is_ascii_digit();
                let name = match variable.value.bytes().all(plain) {
                    true => format!("{:?}", variable.value),
                    false => "a name".into(),
                };
                let found = format!("{name}, which the environment does not have");
                errors.push(at.error(found, "a variable that holds the secret"));
                None
            }
        };
    }
    let value = value.map(|at| SecretSource::Value(Secret::new(&at.value)));
    value.or_else(|| file.map(|at| SecretSource::File(at.value.into()))).map(|secret| (secret, at))
}

fn endpoint(at: &At<String>, insecure_http: bool, errors: &mut Errors) -> Option<Url> {
    const ALLOWED: &str = "the address that answers about tokens, such as \
                           \"https://id.example.com/realms/shop/protocol/openid-connect/token/introspect\"";
    let url = super::realm::address(at, ALLOWED, errors)?;
    if !matches!(url.scheme(), "http" | "https") {
        errors.push(at.error(format_args!("{:?}", at.value), ALLOWED));
    } else if let Err(error) = crate::issuer::check_secure(&url, insecure_http) {
        let allowed = "https; http to this machine; or insecure_http = true in the realm";
        errors.push(at.error(format_args!("{url}: {error}"), allowed));
    } else {
        return Some(url);
    }
    None
}

const USE_FOR: &str = "\"opaque\", \"lightweight\", or [\"all\"] for every token";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Opaque,
    Lightweight,
    All,
}

impl std::str::FromStr for Kind {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "opaque" => Ok(Self::Opaque),
            "lightweight" => Ok(Self::Lightweight),
            "all" => Ok(Self::All),
            _ => Err(()),
        }
    }
}
