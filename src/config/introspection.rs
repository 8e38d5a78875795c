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
    let place = section.here("auth");
    let auth = client_auth(&mut section, errors);

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
    settings.endpoint =
        section.text("endpoint", errors).and_then(|at| endpoint(&at, insecure_http, errors));
    section.end(errors);
    if errors.len() == before
        && let Err(reason) = check_credentials(&settings)
    {
        errors
            .push(place.error(reason, "credentials that this user may read, and that fit `auth`"));
    }
    (rules, settings)
}

fn client_auth(section: &mut Section<'_>, errors: &mut Errors) -> Option<ClientAuth> {
    let way = section.text("auth", errors);
    let name = way.as_ref().map_or("client_secret_basic", |at| at.value.as_str());
    let secret = secret(section, errors);
    let algorithm = section.text("client_key_algorithm", errors);
    let algorithm = algorithm.and_then(|at| {
        at.parse::<Algorithm>(&Algorithm::ALL.map(Algorithm::name).join(", "), errors)
    });
    let key_id = section.text("client_key_id", errors).map(|at| at.value);
    let key_file = section.text("client_key_file", errors);
    let certificate_file = section.text("client_certificate_file", errors);
    let here = |key: &str| section.here(key);
    let (key, certificate) = (here("client_key_file"), here("client_certificate_file"));
    let missing = |place: At<()>, what: &str| place.error("nothing", format!("{what}, for {name}"));

    let unused = |errors: &mut Errors, given: &Option<At<String>>, why: &str| {
        if let Some(given) = given {
            errors.push(given.error(format_args!("a setting that {name} does not use"), why));
        }
    };
    match name {
        "client_secret_basic" | "client_secret_post" => {
            let why = "nothing; or auth = \"private_key_jwt\" or \"tls_client_auth\"";
            unused(errors, &key_file, why);
            unused(errors, &certificate_file, why);
            let secret = secret.or_else(|| {
                if !errors.iter().any(|error| error.path.contains("client_secret")) {
                    let keys = "client_secret_file, client_secret_env or client_secret";
                    errors.push(missing(here("client_secret_file"), keys));
                }
                None
            })?;
            Some(match name {
                "client_secret_basic" => ClientAuth::Basic(secret),
                _ => ClientAuth::Post(secret),
            })
        }
        "private_key_jwt" => {
            unused(errors, &certificate_file, "nothing; or auth = \"tls_client_auth\"");
            let Some(file) = key_file else {
                errors.push(missing(key, "a file with our private key (PKCS #8, PEM)"));
                return None;
            };
            let Some(algorithm) = algorithm else {
                if !errors.iter().any(|error| error.path.ends_with("client_key_algorithm")) {
                    let names = Algorithm::ALL.map(Algorithm::name).join(", ");
                    errors.push(missing(here("client_key_algorithm"), &names));
                }
                return None;
            };
            Some(ClientAuth::PrivateKey { file: file.value.into(), algorithm, key_id })
        }
        "tls_client_auth" => match (certificate_file, key_file) {
            (Some(certificate), Some(key)) => Some(ClientAuth::Tls {
                certificate_file: certificate.value.into(),
                key_file: key.value.into(),
            }),
            (None, _) => {
                errors.push(missing(certificate, "a file with our certificate (PEM)"));
                None
            }
            (_, None) => {
                errors.push(missing(key, "a file with our private key (PEM)"));
                None
            }
        },
        other => {
            errors.push(here("auth").error(format_args!("{other:?}"), WAYS));
            None
        }
    }
}

/// By value, from a file or from the environment: one of them.
fn secret(section: &mut Section<'_>, errors: &mut Errors) -> Option<SecretSource> {
    const SECRET: &str = "the client's secret; in a file, rather: client_secret_file";
    let value = section.text_like("client_secret", SECRET, errors);
    let file = section.text("client_secret_file", errors);
    let variable = section.text("client_secret_env", errors);
    let given: Vec<&At<String>> = [&value, &file, &variable].into_iter().flatten().collect();
    if let [first, second, ..] = &*given {
        errors.push(second.error(format_args!("a second secret beside {}", first.path), "one"));
        return None;
    }
    if let Some(at) = variable {
        return match std::env::var(&at.value) {
            Ok(secret) if !secret.is_empty() => Some(SecretSource::Value(Secret::new(&secret))),
            _ => {
                let found = format!("{:?}, which the environment does not have", at.value);
                errors.push(at.error(found, "a variable that holds the secret"));
                None
            }
        };
    }
    if let Some(at) = &value
        && at.value.is_empty()
    {
        errors.push(at.error("\"\"", SECRET));
    }
    let value = value.map(|at| SecretSource::Value(Secret::new(&at.value)));
    value.or_else(|| file.map(|at| SecretSource::File(at.value.into())))
}

fn endpoint(at: &At<String>, insecure_http: bool, errors: &mut Errors) -> Option<Url> {
    const ALLOWED: &str = "the address that answers about tokens, such as \
                           \"https://id.example.com/realms/shop/protocol/openid-connect/token/introspect\"";
    let url = at.parse::<Url>(ALLOWED, errors)?;
    if !matches!(url.scheme(), "http" | "https") {
        errors.push(at.error(format_args!("{:?}", at.value), ALLOWED));
    } else if url.password().is_some() || !url.username().is_empty() {
        errors.push(
            at.error("a URL with a user or password", "a URL without: it would stand in logs"),
        );
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
