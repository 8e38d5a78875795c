//! From the document to settings: every key but those of a realm and a policy, with every default.

use std::net::SocketAddr;
use std::time::Duration;

use super::policy;
use super::reader::{Errors, Section};
use super::realm::{self, HOUR, SECOND};
use super::{Config, ListenAddr, ServerSettings, client_certificate};
use crate::check::{Limits, Policy, RealmRules};
use crate::edge::EdgeSettings;
use crate::edge::credential::Source;
use crate::edge::forwarded::{TrustedProxies, TrustedProxy};
use crate::gate::Rules;

/// Reads the whole document. Used only if `errors` stays empty.
pub(super) fn read(mut top: Section<'_>, errors: &mut Errors) -> Config {
    let (server, trusted) = server(top.section("server", errors), errors);
    let (sources, limits) = token(top.section("token", errors), errors);

    let certificate = client_certificate::read(&mut top, &sources, errors);
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
        let mut policy = policy::read(&name, section, &realms, errors);
        let alike = policies.iter().find(|other: &&Policy| other.headers == policy.headers);
        policy.headers = alike.map_or(policy.headers, |other| other.headers.clone());
        policies.push(policy);
    }
    if !has_policies {
        let mut only = Policy::new("default", (0..realms.len()).collect());
        only.introspect_realm = policy::introspect_realm(
            None,
            top.here("policy.default.introspect_realm"),
            &only,
            &realms,
            errors,
        );
        policies.push(only);
    }
    top.end(errors);
    for policy in policies.iter().filter(|policy| policy.wants_jwt()) {
        for (place, realm) in realms.iter_mut().enumerate() {
            if let Some(introspection) = realm.introspection.as_mut() {
                introspection.keep_jwt |= policy.accepts_realm(place);
            }
        }
    }

    Config {
        server,
        edge: EdgeSettings { sources, trusted, certificate },
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
