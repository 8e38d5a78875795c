//! A realm: an issuer, what it may sign with, and the keys it publishes.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState as FastHash;

use super::{Algorithm, Claims, Denial, IntrospectionRules, KeySet, UnixTime};

/// The rules of one realm. Changed only by changing the configuration.
#[derive(Clone, Debug)]
pub struct RealmRules {
    /// Short name for metrics and logs. Default: the last segment of the issuer.
    pub name: Arc<str>,
    /// `iss`, compared byte for byte (RFC 7519 §4.1.1).
    pub issuer: Arc<str>,
    /// Whom a token must be meant for. Default: nobody, so nothing passes until it is set.
    pub audience: AudienceRule,
    /// Which algorithms may sign. Default: all that are built in.
    pub algorithms: Vec<Algorithm>,
    /// How far the issuer's clock may be off. Default 5 s: Keycloak and its neighbours keep time.
    pub leeway: Duration,
    /// Values of the JOSE header `typ`, with or without `application/`, in any case; with `JWT` in
    /// the list an absent one passes too. Default `JWT` and `at+jwt`; `at+jwt` alone is RFC 9068.
    pub header_types: Vec<String>,
    /// How long the last good keys serve while the issuer is out of reach. Default 24 h.
    pub max_stale: Duration,
    /// Which tokens the issuer is asked about. Default: none.
    pub introspection: Option<IntrospectionRules>,
}

/// Whom a token must be meant for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AudienceRule {
    /// `aud` holds at least one of these.
    OneOf(Vec<Box<str>>),
    /// Any token of the realm, also one for another service: a token leaked there opens this too.
    InsecureAny,
}

impl AudienceRule {
    pub(super) fn accepts(&self, claims: &Claims) -> bool {
        match self {
            Self::InsecureAny => true,
            Self::OneOf(names) => {
                claims.audience().any(|aud| names.iter().any(|name| **name == *aud))
            }
        }
    }
}

impl RealmRules {
    /// The defaults for an issuer.
    pub fn new(issuer: &str) -> Self {
        let name = issuer.trim_end_matches('/').rsplit('/').next().unwrap_or(issuer);
        Self {
            name: name.into(),
            issuer: issuer.into(),
            audience: AudienceRule::OneOf(Vec::new()),
            algorithms: Algorithm::ALL.to_vec(),
            leeway: Duration::from_secs(5),
            header_types: vec!["JWT".into(), "at+jwt".into()],
            max_stale: Duration::from_secs(24 * 3600),
            introspection: None,
        }
    }

    pub(super) fn accepts_header_type(&self, kind: Option<&str>) -> bool {
        let kind = kind.map_or("JWT", without_application);
        let same = |accepted: &String| without_application(accepted).eq_ignore_ascii_case(kind);
        self.header_types.iter().any(same)
    }

    /// RFC 7519 §4.1.4 to §4.1.6. A token ends when `exp` is reached, not after it.
    pub(super) fn check_times(&self, claims: &Claims, now: UnixTime) -> Result<(), Denial> {
        let latest_start = now.after(self.leeway);
        if now.before(self.leeway) >= claims.expires {
            Err(Denial::Expired)
        } else if claims.not_before.is_some_and(|start| start > latest_start) {
            Err(Denial::NotYetValid)
        } else if claims.issued_at.is_some_and(|issued| issued > latest_start) {
            Err(Denial::IssuedInFuture)
        } else {
            Ok(())
        }
    }
}

/// A JOSE `typ` may leave out `application/` (RFC 7515 §4.1.9).
pub(super) fn without_application(kind: &str) -> &str {
    let prefix = "application/";
    let has_it = kind.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    if has_it { &kind[prefix.len()..] } else { kind }
}

/// A realm with the keys it published last.
#[derive(Clone, Debug)]
pub struct Realm {
    rules: Arc<RealmRules>,
    keys: Option<Arc<KeySet>>,
    fetched: UnixTime,
}

impl Realm {
    /// Its rules.
    pub fn rules(&self) -> &Arc<RealmRules> {
        &self.rules
    }

    /// The last good keys, however old.
    pub fn last_keys(&self) -> Option<&Arc<KeySet>> {
        self.keys.as_ref()
    }

    /// When they were fetched.
    pub fn fetched(&self) -> Option<UnixTime> {
        self.keys.as_ref().map(|_| self.fetched)
    }

    /// The last good keys, unless they are older than `max_stale`.
    pub fn keys(&self, now: UnixTime) -> Option<&KeySet> {
        let keys = self.keys.as_deref()?;
        (now.since(self.fetched) <= self.rules.max_stale).then_some(keys)
    }
}

/// All realms: rules and keys of one moment.
#[derive(Clone, Debug)]
pub struct Realms {
    list: Vec<Realm>,
    by_issuer: Arc<HashMap<Arc<str>, usize, FastHash>>,
}

/// Two realms have one issuer: which of them a token belongs to would be chance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SameIssuer(pub Arc<str>);

impl fmt::Display for SameIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "two realms have the issuer {}", self.0)
    }
}

impl std::error::Error for SameIssuer {}

impl Realms {
    /// Realms without keys yet, known from now on by their place in this list.
    ///
    /// # Errors
    /// If two have the same issuer.
    pub fn new(rules: Vec<RealmRules>) -> Result<Self, SameIssuer> {
        let mut by_issuer = HashMap::with_capacity_and_hasher(rules.len(), FastHash::default());
        for (place, rules) in rules.iter().enumerate() {
            if by_issuer.insert(Arc::clone(&rules.issuer), place).is_some() {
                return Err(SameIssuer(Arc::clone(&rules.issuer)));
            }
        }
        let realm =
            |rules| Realm { rules: Arc::new(rules), keys: None, fetched: UnixTime::default() };
        Ok(Self { list: rules.into_iter().map(realm).collect(), by_issuer: Arc::new(by_issuer) })
    }

    /// Takes over newly fetched keys of the realm at `place`.
    pub fn set_keys(&mut self, place: usize, keys: impl Into<Arc<KeySet>>, fetched: UnixTime) {
        if let Some(realm) = self.list.get_mut(place) {
            realm.keys = Some(keys.into());
            realm.fetched = fetched;
        }
    }

    /// The realm at `place`.
    pub fn get(&self, place: usize) -> Option<&Realm> {
        self.list.get(place)
    }

    /// The place of the realm with exactly this issuer.
    pub fn place_of(&self, issuer: &str) -> Option<usize> {
        self.by_issuer.get(issuer).copied()
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Realm> {
        self.list.iter()
    }
}
