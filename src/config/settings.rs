//! From the document to settings: every key but those of a realm, with every default.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use http::header::HeaderName;

use super::reader::{At, Errors, Section};
use super::realm::{self, HOUR, NAME, NonEmpty, SECOND, is_name};
use super::{Config, ListenAddr, ServerSettings};
use crate::check::{AudienceRule, ClaimPath, Limits, Policy, RealmRules, Role};
use crate::edge::EdgeSettings;
use crate::edge::credential::Source;
use crate::edge::forwarded::{TrustedProxies, TrustedProxy};
use crate::gate::Rules;

/// Reads the whole document. Used only if `errors` stays empty.
pub(super) fn read(mut top: Section<'_>, errors: &mut Errors) -> Config {
    let (server, trusted) = server(top.section("server", errors), errors);
    let (sources, limits) = token(top.section("token", errors), errors);

    let nowhere = top.here("realm");
    let sections = top.sections("realm", errors);
    if sections.is_empty() && errors.is_empty() {
        errors.push(nowhere.error("no realm", "at least one [[realm]] with issuer and audience"));
    }
    let mut realms: Vec<RealmRules> = Vec::new();
    let mut issuers = Vec::new();
    for section in sections {
        let (rules, settings, place) = realm::read(section, errors);
        if let Some(twin) = realms.iter().find(|other| other.issuer == rules.issuer) {
            let found = format!("the issuer of realm {:?} again", twin.name);
            errors.push(place.error(found, "each issuer once; use policies for different rules"));
        } else if realms.iter().any(|other| other.name == rules.name) {
            let found = format!("the name {:?} again", rules.name);
            errors.push(place.error(found, "a name of its own: name = \"...\""));
        }
        realms.push(rules);
        issuers.push(settings);
    }

    let mut cache = top.section("cache", errors);
    let cache_bytes = cache.size("max_bytes", "64MiB", ["1MiB", "64GiB"], errors);
    cache.end(errors);

    let has_policies = top.has("policy");
    let mut policies = Vec::new();
    for (name, section) in top.section("policy", errors).named_sections(errors) {
        policies.push(policy(&name, section, &realms, errors));
    }
    if !has_policies {
        policies.push(Policy::new("default", (0..realms.len()).collect()));
    }
    top.end(errors);

    Config {
        server,
        edge: EdgeSettings { sources, trusted },
        rules: Rules { realms, policies, limits },
        issuers,
        cache_bytes,
    }
}

fn server(mut server: Section<'_>, errors: &mut Errors) -> (ServerSettings, TrustedProxies) {
    const ADDRESS: &str = "\"127.0.0.1:9180\", \"[::1]:9180\" or \"unix:/run/vidimus/edge.sock\"";
    let place = server.here("listen");
    let listen = server.items::<ListenAddr>("listen", ADDRESS, errors);
    let listen = listen.unwrap_or_else(|| vec![ListenAddr::Tcp(([127, 0, 0, 1], 9180).into())]);
    let admin: SocketAddr = server
        .text("admin", errors)
        .and_then(|at| at.parse("\"127.0.0.1:9181\" or \"[::1]:9181\"", errors))
        .unwrap_or_else(|| ([127, 0, 0, 1], 9181).into());
    for (position, address) in listen.iter().enumerate() {
        let chosen = !matches!(address, ListenAddr::Tcp(socket) if socket.port() == 0);
        if chosen && listen[..position].contains(address) {
            errors.push(place.error(format_args!("{address} twice"), "each address once"));
        }
        if chosen && *address == ListenAddr::Tcp(admin) {
            errors
                .push(place.error(format_args!("the admin address {address}"), "another address"));
        }
    }
    const MODE: &str = "file permissions in octal, such as \"0660\" (owner and group connect)";
    let socket_mode = match server.text_like("socket_mode", MODE, errors) {
        None => 0o660,
        Some(at) => match u32::from_str_radix(&at.value, 8) {
            Ok(mode) if mode <= 0o777 => mode,
            _ => {
                errors.push(at.error(format_args!("{:?}", at.value), MODE));
                0o660
            }
        },
    };
    let trusted = match server.list("trusted_proxies", errors) {
        None => TrustedProxies::default(),
        // An empty list is meant: nobody may speak for a client.
        Some(list) => TrustedProxies(
            list.value
                .iter()
                .filter_map(|at| {
                    at.parse::<TrustedProxy>(
                        "\"10.0.0.0/8\", \"192.168.1.7\", \"::1\" or \"unix\"",
                        errors,
                    )
                })
                .collect(),
        ),
    };
    let drain_timeout = server.duration("drain_timeout", 20 * SECOND, Duration::ZERO..HOUR, errors);
    server.end(errors);
    (ServerSettings { listen, admin, socket_mode, drain_timeout }, trusted)
}

fn token(mut token: Section<'_>, errors: &mut Errors) -> (Vec<Source>, Limits) {
    const SOURCE: &str = "\"authorization\", \"cookie:NAME\" or \"header:NAME\"; never the query";
    let sources = token.items::<Source>("sources", SOURCE, errors);
    let mut seen: Vec<&Source> = Vec::new();
    for source in sources.iter().flatten() {
        if seen.contains(&source) {
            let found = format!("{source} twice");
            errors.push(
                token
                    .here("sources")
                    .error(found, "each place once: a credential there would count twice"),
            );
        }
        seen.push(source);
    }
    let max_size = token.size("max_size", "16KiB", ["1KiB", "256KiB"], errors);
    token.end(errors);
    let limits = Limits { token: usize::try_from(max_size).unwrap_or(usize::MAX) };
    (sources.unwrap_or_else(|| vec![Source::Authorization]), limits)
}

fn policy(
    name: &At<String>,
    mut section: Section<'_>,
    realms: &[RealmRules],
    errors: &mut Errors,
) -> Policy {
    if !is_name(&name.value) {
        errors.push(name.error(format_args!("the name {:?}", name.value), NAME));
    }
    let mut places: Vec<usize> = (0..realms.len()).collect();
    if let Some(list) = section.list("realms", errors) {
        if list.value.is_empty() {
            errors.push(list.error("an empty list", "names of realms; leave it out for all"));
        }
        let known: Vec<&str> = realms.iter().map(|realm| &*realm.name).collect();
        places = list
            .value
            .iter()
            .filter_map(|at| {
                let place = known.iter().position(|name| *name == at.value);
                if place.is_none() {
                    let found = format!("{:?}", at.value);
                    errors.push(at.error(found, format!("names of realms: {}", known.join(", "))));
                }
                place
            })
            .collect();
    }
    let mut policy = Policy::new(&name.value, places.clone());
    policy.audience = audience(&mut section, realms, &places, errors);
    policy.scopes = section
        .items::<Scope>("scopes", "scopes without spaces, such as \"orders:read\"", errors)
        .map(|scopes| scopes.into_iter().map(|scope| scope.0.into()).collect())
        .unwrap_or_default();

    let own_client =
        policy.audience.as_ref().and_then(|names| names.first()).cloned().or_else(|| {
            places.iter().find_map(|place| match &realms.get(*place)?.audience {
                AudienceRule::OneOf(names) => names.first().cloned(),
                AudienceRule::InsecureAny => None,
            })
        });
    if let Some(list) = section.list("roles", errors) {
        if list.value.is_empty() {
            errors.push(list.error("an empty list", "roles; leave it out to ask for none"));
        }
        for at in &list.value {
            match Role::parse(&at.value, own_client.as_deref()) {
                Ok(role) => policy.roles.push(role),
                Err(allowed) => errors.push(at.error(format_args!("{:?}", at.value), allowed)),
            }
        }
    }
    if section.has("headers") {
        policy.headers = headers(section.section("headers", errors), errors);
    } else {
        section.section("headers", errors);
    }
    section.end(errors);
    policy
}

/// A policy narrows what its realms accept: an audience that none of them does would shut the door.
fn audience(
    section: &mut Section<'_>,
    realms: &[RealmRules],
    places: &[usize],
    errors: &mut Errors,
) -> Option<Vec<Box<str>>> {
    let list = section.list("audience", errors)?;
    if list.value.is_empty() {
        errors.push(list.error("an empty list", "client ids; leave it out for the realm's own"));
    }
    for at in &list.value {
        let accepted =
            places.iter().filter_map(|place| realms.get(*place)).any(|realm| {
                match &realm.audience {
                    AudienceRule::InsecureAny => true,
                    AudienceRule::OneOf(names) => names.iter().any(|name| **name == *at.value),
                }
            });
        if !accepted {
            let allowed = "an audience of the policy's realms: a policy can only narrow it";
            errors.push(at.error(format_args!("{:?}", at.value), allowed));
        }
    }
    Some(list.value.into_iter().map(|at| at.value.into()).collect())
}

fn headers(section: Section<'_>, errors: &mut Errors) -> Vec<(Box<str>, ClaimPath)> {
    let mut seen: HashMap<String, String> = HashMap::new();
    let mut headers = Vec::new();
    for (name, claim) in section.named_texts(errors) {
        let parsed = name.value.parse::<HeaderName>().ok();
        let Some(parsed) = parsed.filter(|name| !is_reserved(name.as_str())) else {
            let found = format!("the header name {:?}", name.value);
            errors.push(name.error(found, "the name of a request header that is not HTTP's own"));
            continue;
        };
        // Many servers read X_User or X.User as X-User: two such headers would be one.
        let alias = parsed.as_str().replace(['_', '.'], "-");
        if let Some(twin) = seen.insert(alias, name.value.clone()) {
            errors.push(
                name.error(format_args!("{:?} beside {twin:?}", name.value), "each header once"),
            );
        }
        if claim.is_empty() {
            errors.push(
                name.error(
                    "\"\"",
                    "the name of a claim, such as \"sub\" or \"realm_access.roles\"",
                ),
            );
        }
        headers.push((name.value.into(), ClaimPath::new(&claim)));
    }
    headers
}

/// Headers that steer HTTP or the proxy itself: an identity header of that name would break the answer.
fn is_reserved(name: &str) -> bool {
    const RESERVED: [&str; 20] = [
        "accept-ranges",
        "authorization",
        "cache-control",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "cookie",
        "date",
        "expect",
        "host",
        "keep-alive",
        "proxy-connection",
        "retry-after",
        "set-cookie",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "www-authenticate",
    ];
    RESERVED.contains(&name) || name.starts_with("x-accel-")
}

/// RFC 6749 §3.3 `scope-token`.
struct Scope(String);

impl std::str::FromStr for Scope {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let good = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
        let NonEmpty(text) = text.parse()?;
        if text.bytes().all(good) { Ok(Self(text)) } else { Err(()) }
    }
}
