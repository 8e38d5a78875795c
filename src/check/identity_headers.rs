//! Which claims are handed to the service under which header names, and their values for one proof.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{ClaimPath, Claims};

/// Header names and the claims that fill them. A copy is the same list, and cheap.
#[derive(Clone, Debug)]
pub struct IdentityHeaders(Arc<List>);

#[derive(Debug)]
struct List {
    headers: Box<[(HeaderName, ClaimPath)]>,
    /// An answer with all names, before their values: so that no name is hashed for a request.
    blank: HeaderMap,
    /// Which header each of its values is for; `Cache-Control` is for none.
    places: Box<[Option<usize>]>,
}

/// All values of a usual token together, in bytes.
const USUAL: usize = 256;

/// Those that users of oauth2-proxy know.
const DEFAULT: [(&str, &str); 6] = [
    ("x-auth-request-user", "sub"),
    ("x-auth-request-preferred-username", "preferred_username"),
    ("x-auth-request-email", "email"),
    ("x-auth-request-client", "azp"),
    ("x-auth-request-scope", "scope"),
    ("x-auth-request-roles", "realm_access.roles"),
];

impl IdentityHeaders {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.headers.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.headers.is_empty()
    }

    /// Each name with its claim.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &(HeaderName, ClaimPath)> + Clone {
        self.0.headers.iter()
    }

    /// The names.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &HeaderName> + Clone {
        self.iter().map(|(name, _)| name)
    }

    /// All values stand in one piece of memory.
    fn values(&self, claims: &Claims) -> Arc<[HeaderValue]> {
        let mut text = String::with_capacity(USUAL);
        let end = |(_, claim): &(_, ClaimPath)| {
            claim.write(claims, &mut text);
            text.len()
        };
        let ends: Vec<usize> = self.iter().map(end).collect();
        let text = Bytes::from(text);
        let begins = [0].iter().chain(&ends);
        let value = |(begin, end): (&usize, &usize)| {
            // It is printable ASCII by construction; what were not would tell nothing.
            HeaderValue::from_maybe_shared(text.slice(*begin..*end))
                .unwrap_or(HeaderValue::from_static(""))
        };
        begins.zip(&ends).map(value).collect()
    }

    /// The headers of an answer with these values, which nobody may keep.
    pub(super) fn answer(&self, values: &[HeaderValue]) -> HeaderMap {
        let List { blank, places, .. } = &*self.0;
        let mut answer = blank.clone();
        for (slot, place) in answer.values_mut().zip(places) {
            if let Some(value) = place.and_then(|place| values.get(place)) {
                *slot = value.clone();
            }
        }
        answer
    }
}

impl PartialEq for IdentityHeaders {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.headers == other.0.headers
    }
}

impl Eq for IdentityHeaders {}

impl Default for IdentityHeaders {
    /// `X-Auth-Request-User` (`sub`), `-Preferred-Username`, `-Email`, `-Client` (`azp`), `-Scope` and
    /// `-Roles` (`realm_access.roles`).
    fn default() -> Self {
        DEFAULT
            .map(|(name, path)| (HeaderName::from_static(name), ClaimPath::new(path)))
            .into_iter()
            .collect()
    }
}

impl FromIterator<(HeaderName, ClaimPath)> for IdentityHeaders {
    fn from_iter<I: IntoIterator<Item = (HeaderName, ClaimPath)>>(headers: I) -> Self {
        let headers: Box<[_]> = headers.into_iter().collect();
        let mut blank = HeaderMap::with_capacity(1 + headers.len());
        blank.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        for (name, _) in &headers {
            blank.insert(name.clone(), HeaderValue::from_static(""));
        }
        // A map keeps its own order, and its copies keep it.
        let place = |name: &HeaderName| headers.iter().rposition(|(own, _)| own == name);
        let places = blank.keys().map(place).collect();
        Self(Arc::new(List { headers, blank, places }))
    }
}

/// The values for the list that was asked for first: nearly always the only one. They follow from the
/// proof alone, so that they are worked out once.
#[derive(Debug, Default)]
pub(super) struct Prepared(OnceLock<(IdentityHeaders, Arc<[HeaderValue]>)>);

impl Prepared {
    pub(super) fn values(&self, list: &IdentityHeaders, claims: &Claims) -> Arc<[HeaderValue]> {
        let (first, values) = self.0.get_or_init(|| (list.clone(), list.values(claims)));
        match Arc::ptr_eq(&first.0, &list.0) {
            true => Arc::clone(values),
            false => list.values(claims),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{Json, JsonLimits};
    use super::*;

    #[test]
    fn each_list_gets_its_own_values_whichever_came_first() {
        let claims =
            json!({ "iss": "i", "typ": "Bearer", "exp": 1, "sub": "alice", "email": "a@b" });
        let json = Json::parse(claims.to_string().into_bytes(), JsonLimits::TOKEN).unwrap();
        let claims = Claims::read(json).unwrap();
        let name = HeaderName::from_static("x-mail");
        let mail: IdentityHeaders = [(name, ClaimPath::new("email"))].into_iter().collect();
        let (usual, prepared) = (IdentityHeaders::default(), Prepared::default());
        for _ in 0..2 {
            assert_eq!(*prepared.values(&usual, &claims), ["alice", "", "a@b", "", "", ""]);
            assert_eq!(*prepared.values(&mail, &claims), ["a@b"]);
        }
    }
}
