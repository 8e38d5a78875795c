//! What a policy asks of a token. Typed and immutable: made once, when the configuration is read.

use std::fmt;
use std::sync::{Arc, OnceLock};

use http::HeaderName;

use super::{BindingRule, ClaimPath, Claims, Denial, Forgeries, IdentityHeaders};

/// The rules behind one name that an edge may route to.
#[derive(Clone, Debug)]
pub struct Policy {
    name: Arc<str>,
    realms: Vec<usize>,
    /// Besides the realm's own: `aud` must hold one of these. Default: nothing more.
    pub audience: Option<Vec<Box<str>>>,
    /// All of these. Default none.
    pub scopes: Vec<Box<str>>,
    /// At least one of these. Default none: no role is asked for.
    pub roles: Vec<Role>,
    /// Which proof of possession is asked for. Default: that of every bound token, and no more.
    pub binding: BindingRule,
    /// Header names and the claims that fill them, on every allowed request. Policies that share one
    /// list share the values that are worked out for a token.
    pub headers: IdentityHeaders,
    /// Names, and the claims whose values an edge may hand to its proxy under them as they are: Envoy's
    /// dynamic metadata, by gRPC. Default none.
    pub metadata: Vec<(Box<str>, ClaimPath)>,
    /// The place of the realm that is asked about opaque tokens. Default: none, so they are refused.
    /// Counts only if the policy accepts that realm and its rules have `use_for.opaque`.
    pub introspect_realm: Option<usize>,
    /// A header that hands the full JWT to the service: the one that was presented, or the one that
    /// introspection gave for it (empty if it gave none). Default: none.
    pub forward_jwt: Option<HeaderName>,
    /// Whether [`Grant::jwt`](super::Grant::jwt) has the full JWT, without a header for it. Default: no.
    pub keep_jwt: bool,
    forgeries: OnceLock<Forgeries>,
}

/// A role, as Keycloak's `protect()` writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// `realm:NAME`: in `realm_access.roles`.
    Realm(Box<str>),
    /// `CLIENT:NAME`: in `resource_access[CLIENT].roles`.
    Client {
        /// The client's id.
        client: Box<str>,
        /// The role's name.
        role: Box<str>,
    },
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Realm(role) => write!(f, "realm role {role:?}"),
            Self::Client { client, role } => write!(f, "role {role:?} of client {client:?}"),
        }
    }
}

impl Role {
    /// Reads `realm:x`, `client:x`, or `x` alone, which means a role of `own_client`. Only the first
    /// colon divides, so a role's name may hold more.
    ///
    /// # Errors
    /// If a part is empty, or a bare role has no `own_client`.
    pub fn parse(text: &str, own_client: Option<&str>) -> Result<Self, &'static str> {
        let (client, role) = match text.split_once(':') {
            Some(parts) => parts,
            None => (own_client.ok_or("a bare role needs an audience to belong to")?, text),
        };
        match (client, role) {
            ("", _) | (_, "") => Err("a role is realm:NAME, CLIENT:NAME or NAME"),
            ("realm", role) => Ok(Self::Realm(role.into())),
            (client, role) => Ok(Self::Client { client: client.into(), role: role.into() }),
        }
    }

    pub(super) fn held(&self, claims: &Claims) -> bool {
        match self {
            Self::Realm(role) => claims.has_realm_role(role),
            Self::Client { client, role } => claims.has_client_role(client, role),
        }
    }
}

impl Policy {
    /// A policy for tokens of these realms, by their places in [`Realms`](super::Realms), which asks
    /// for nothing more.
    ///
    /// `name` stands in challenges and metrics: letters, digits, `.`, `_` and `-`; others become `_`.
    pub fn new(name: &str, mut realms: Vec<usize>) -> Self {
        realms.sort_unstable();
        let plain = |c: char| if c.is_ascii_alphanumeric() || ".-".contains(c) { c } else { '_' };
        Self {
            name: name.chars().map(plain).collect::<String>().into(),
            realms,
            audience: None,
            scopes: Vec::new(),
            roles: Vec::new(),
            binding: BindingRule::default(),
            headers: IdentityHeaders::default(),
            metadata: Vec::new(),
            introspect_realm: None,
            forward_jwt: None,
            keep_jwt: false,
            forgeries: OnceLock::new(),
        }
    }

    /// Tells each of a configuration's policies what the others hand on, once all are as they will be. The
    /// gate does it for its rules.
    pub fn introduce(policies: &mut [Self]) {
        let mut handed: Vec<HeaderName> = Vec::new();
        for name in policies.iter().flat_map(Self::handed) {
            if !handed.contains(name) {
                handed.push(name.clone());
            }
        }
        for policy in policies {
            policy.forgeries = Forgeries::new(policy, &handed).into();
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Under which header names a client could forge an identity that this policy would let pass. A policy
    /// that has not been [introduced](Self::introduce) to others knows its own names alone.
    pub fn forgeries(&self) -> &Forgeries {
        self.forgeries.get_or_init(|| Forgeries::new(self, &[]))
    }

    /// The names of all headers that it hands on.
    pub(super) fn handed(&self) -> impl Iterator<Item = &HeaderName> {
        self.headers.names().chain(&self.forward_jwt)
    }

    /// Whether tokens of the realm at this place are accepted at all.
    pub fn accepts_realm(&self, place: usize) -> bool {
        self.realms.binary_search(&place).is_ok()
    }

    /// Whether the full JWT is wanted beside the claims: for a header, or for the grant.
    pub fn wants_jwt(&self) -> bool {
        self.keep_jwt || self.forward_jwt.is_some()
    }

    /// Whether a claim that this policy looks at is not in the token at all: then a full answer about
    /// the token might still satisfy it.
    pub(super) fn lacks_claim(&self, claims: &Claims) -> bool {
        match self.check_rights(claims) {
            Ok(()) => false,
            Err(Denial::Audience) => !claims.has_audience(),
            Err(Denial::ScopeMissing) => !claims.has_scope(),
            Err(_) => !claims.has_access(),
        }
    }

    /// Whether the token has everything this policy asks for, and hands on.
    pub(super) fn is_satisfied(&self, claims: &Claims) -> bool {
        self.check_rights(claims).is_ok()
            && !self.wants_jwt()
            && self.headers.iter().all(|(_, claim)| claim.is_in(claims))
            && self.metadata.iter().all(|(_, claim)| claim.is_in(claims))
    }

    /// Rule 6: audience, scopes, roles.
    pub(super) fn check_rights(&self, claims: &Claims) -> Result<(), Denial> {
        let meant_for = |names: &Vec<Box<str>>| {
            claims.audience().any(|aud| names.iter().any(|name| **name == *aud))
        };
        if !self.audience.as_ref().is_none_or(meant_for) {
            Err(Denial::Audience)
        } else if !self.scopes.iter().all(|wanted| claims.scopes().any(|scope| scope == &**wanted))
        {
            Err(Denial::ScopeMissing)
        } else if !self.roles.is_empty() && !self.roles.iter().any(|role| role.held(claims)) {
            Err(Denial::RoleMissing)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_written_as_protect_writes_them() {
        let client = |client: &str, role: &str| {
            Ok(Role::Client { client: client.into(), role: role.into() })
        };
        for (text, expected) in [
            ("realm:admin", Ok(Role::Realm("admin".into()))),
            ("orders-api:viewer", client("orders-api", "viewer")),
            ("viewer", client("own", "viewer")),
            ("app:a:b", client("app", "a:b")),
        ] {
            assert_eq!(Role::parse(text, Some("own")), expected, "{text}");
        }
        for text in ["", ":", "realm:", ":viewer"] {
            assert!(Role::parse(text, Some("own")).is_err(), "{text}");
        }
        assert!(Role::parse("viewer", None).is_err());
    }
}
