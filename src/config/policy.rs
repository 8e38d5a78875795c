//! `[policy.NAME]`.

use std::collections::HashMap;

use http::header::HeaderName;

use super::reader::{At, Errors, Section};
use super::realm::{NAME, NonEmpty, is_name};
use crate::check::{
    AudienceRule, BindingRule, ClaimPath, IdentityHeaders, Policy, RealmRules, Role,
};

/// Reads one policy. With a mistake in it, `errors` has it and the result is not used.
pub(super) fn read(
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
    const BINDING: &str = "\"if-bound\", \"required\", \"mtls\" or \"dpop\"";
    if let Some(at) = section.text("binding", errors) {
        match at.value.as_str() {
            "if-bound" => {}
            "required" => policy.binding = BindingRule::Required,
            "mtls" => policy.binding = BindingRule::Mtls,
            "dpop" => policy.binding = BindingRule::Dpop,
            other => errors.push(at.error(format_args!("{other:?}"), BINDING)),
        }
    }
    let named = section.text("introspect_realm", errors);
    let here = section.here("introspect_realm");
    policy.introspect_realm = introspect_realm(named, here, &policy, realms, errors);
    if section.has("headers") {
        policy.headers = headers(section.section("headers", errors), errors);
    } else {
        section.section("headers", errors);
    }
    policy.metadata = metadata(section.section("metadata", errors), errors);
    policy.keep_jwt = section.flag("keep_jwt", errors);
    if let Some(at) = section.text("forward_jwt", errors) {
        let taken = |name: &HeaderName| {
            policy.headers.names().find(|other| alias(other.as_str()) == alias(name.as_str()))
        };
        let name = at.value.parse::<HeaderName>();
        let wrong: Option<String> = match &name {
            Err(_) => Some("the name of a header, such as \"X-Auth-Request-Access-Token\"".into()),
            Ok(name) if *name == http::header::AUTHORIZATION => Some(
                "a header of its own, such as \"X-Auth-Request-Access-Token\": nginx makes Authorization \
                 of it"
                    .into(),
            ),
            Ok(name) if is_reserved(name.as_str()) => {
                Some("the name of a request header that is not HTTP's own".into())
            }
            Ok(name) => taken(name).map(|other| format!("another name: {other} is a header of a claim")),
        };
        match wrong {
            None => policy.forward_jwt = name.ok(),
            Some(allowed) => errors.push(at.error(format_args!("{:?}", at.value), allowed)),
        }
    }
    section.end(errors);
    policy
}

/// Which realm is asked about an opaque token, which does not say whose it is.
pub(super) fn introspect_realm(
    named: Option<At<String>>,
    here: At<()>,
    policy: &Policy,
    realms: &[RealmRules],
    errors: &mut Errors,
) -> Option<usize> {
    let asks = |realm: &RealmRules| realm.introspection.as_ref().is_some_and(|i| i.use_for.opaque);
    let able = realms.iter().enumerate();
    let able: Vec<_> =
        able.filter(|(place, realm)| policy.accepts_realm(*place) && asks(realm)).collect();
    let names = able.iter().map(|(_, realm)| &*realm.name).collect::<Vec<_>>().join(", ");
    match (named, &*able) {
        (Some(at), able) => {
            let found = able.iter().find(|(_, realm)| *realm.name == *at.value);
            if found.is_none() {
                let allowed = match &*names {
                    "" => "a realm of this policy whose [realm.introspection] is for opaque tokens: none \
                           is"
                        .into(),
                    names => format!("a realm of this policy that introspects opaque tokens: {names}"),
                };
                errors.push(at.error(format_args!("{:?}", at.value), allowed));
            }
            found.map(|(place, _)| *place)
        }
        (None, []) => None,
        (None, [(place, _)]) => Some(*place),
        (None, _) => {
            let allowed = format!(
                "which of {names} is asked about opaque tokens, which do not say whose they are: \
                 introspect_realm = \"...\" (Keycloak issues none: use_for = [\"lightweight\"] in the \
                 realms does as well)"
            );
            errors.push(here.error("nothing", allowed));
            None
        }
    }
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

fn headers(section: Section<'_>, errors: &mut Errors) -> IdentityHeaders {
    let mut seen: HashMap<String, String> = HashMap::new();
    let mut headers = Vec::new();
    for (name, claim) in section.named_texts(errors) {
        let parsed = name.value.parse::<HeaderName>().ok();
        let Some(parsed) = parsed.filter(|name| !is_reserved(name.as_str())) else {
            let found = format!("the header name {:?}", name.value);
            errors.push(name.error(found, "the name of a request header that is not HTTP's own"));
            continue;
        };
        if let Some(twin) = seen.insert(alias(parsed.as_str()), name.value.clone()) {
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
        headers.push((parsed, ClaimPath::new(&claim)));
    }
    headers.into_iter().collect()
}

/// `[policy.NAME.metadata]`: names and the claims that fill them.
fn metadata(section: Section<'_>, errors: &mut Errors) -> Vec<(Box<str>, ClaimPath)> {
    let mut metadata = Vec::new();
    for (name, claim) in section.named_texts(errors) {
        if name.value.is_empty() || claim.is_empty() {
            let allowed = "a name and the name of a claim, such as user = \"sub\"";
            errors.push(name.error(format_args!("{:?} = {claim:?}", name.value), allowed));
        }
        metadata.push((name.value.into(), ClaimPath::new(&claim)));
    }
    metadata
}

/// Many servers read X_User or X.User as X-User: two such headers would be one.
fn alias(name: &str) -> String {
    name.to_ascii_lowercase().replace(['_', '.'], "-")
}

/// Headers that steer HTTP or the proxy itself: an identity header of that name would break the answer.
pub(super) fn is_reserved(name: &str) -> bool {
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
