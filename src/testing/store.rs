//! What the issuer remembers of its tokens: their full claims, and whether their session has ended.
//!
//! Claims are kept as text, because 100,000 trees of them would fill a small machine.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// How many tokens are remembered; then the oldest goes.
const MOST: usize = 100_000;

/// A bounded memory of tokens.
#[derive(Default)]
pub(super) struct Store {
    tokens: Mutex<Tokens>,
}

#[derive(Default)]
struct Tokens {
    by_name: HashMap<Name, Entry>,
    oldest_first: VecDeque<Name>,
}

/// What a token is known by.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Name {
    Opaque(Arc<str>),
    Jti(Arc<str>),
}

struct Entry {
    claims: Arc<str>,
    ended: bool,
}

/// What is known of a token.
#[derive(Debug, PartialEq)]
pub(super) enum Memory {
    /// Nothing: never heard of, or too long ago.
    None,
    /// Its session has ended.
    Ended,
    /// Its full claims.
    Claims(Value),
}

impl Store {
    /// Remembers the full claims of a token.
    pub(super) fn remember(&self, token: &str, claims: &Value) {
        let (name, _) = read(token);
        self.tokens().put(name, claims, false, MOST);
    }

    /// Ends the session of a token; of a JWT that stands for itself, too.
    pub(super) fn end(&self, token: &str) {
        let (name, own) = read(token);
        let mut tokens = self.tokens();
        match (tokens.by_name.get_mut(&name), &own) {
            (Some(entry), _) => entry.ended = true,
            (None, Some(own)) => tokens.put(name, own, true, MOST),
            (None, None) => {} // an opaque token that is not known is not active anyway
        }
    }

    /// What is known of a token. The signature of a JWT is for the caller to check.
    pub(super) fn recall(&self, token: &str) -> Memory {
        let (name, _) = read(token);
        let claims = match self.tokens().by_name.get(&name) {
            None => return Memory::None,
            Some(Entry { ended: true, .. }) => return Memory::Ended,
            Some(entry) => Arc::clone(&entry.claims),
        };
        serde_json::from_str(&claims).map_or(Memory::None, Memory::Claims)
    }

    fn tokens(&self) -> MutexGuard<'_, Tokens> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tokens {
    fn put(&mut self, name: Name, claims: &Value, ended: bool, most: usize) {
        let entry = Entry { claims: claims.to_string().into(), ended };
        if self.by_name.insert(name.clone(), entry).is_none() {
            self.oldest_first.push_back(name);
        }
        while self.oldest_first.len() > most {
            let oldest = self.oldest_first.pop_front();
            oldest.map(|oldest| self.by_name.remove(&oldest));
        }
    }
}

/// The name of a token, and its claims if it is a JWT, whoever signed it.
fn read(token: &str) -> (Name, Option<Value>) {
    let payload = payload(token);
    let jti = payload.as_ref().and_then(|claims| claims["jti"].as_str());
    (jti.map_or_else(|| Name::Opaque(token.into()), |jti| Name::Jti(jti.into())), payload)
}

/// What a JWT says, whoever signed it.
pub(super) fn payload(token: &str) -> Option<Value> {
    let bytes = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn when_it_is_full_the_oldest_goes() {
        let mut tokens = Tokens::default();
        let name = |text: &str| Name::Opaque(text.into());
        for text in ["a", "b", "a", "c"] {
            tokens.put(name(text), &json!({}), false, 2);
        }
        let known = ["a", "b", "c"].map(|text| tokens.by_name.contains_key(&name(text)));
        assert_eq!(known, [false, true, true]);
        assert_eq!(tokens.oldest_first.len(), 2);
    }

    #[test]
    fn a_session_that_has_ended_stays_so() {
        let store = Store::default();
        store.remember("opaque", &json!({ "sub": "alice" }));
        assert_eq!(store.recall("opaque"), Memory::Claims(json!({ "sub": "alice" })));
        store.end("opaque");
        assert_eq!(store.recall("opaque"), Memory::Ended);
        store.end("never heard of");
        assert_eq!(store.recall("never heard of"), Memory::None);
    }

    #[test]
    fn the_jti_of_a_token_is_no_token() {
        let jwt = format!("e30.{}.e30", URL_SAFE_NO_PAD.encode(r#"{"jti":"onltac:1"}"#));
        let store = Store::default();
        store.remember(&jwt, &json!({ "sub": "alice" }));
        assert_eq!(store.recall("onltac:1"), Memory::None);
        assert_eq!(store.recall(&jwt), Memory::Claims(json!({ "sub": "alice" })));
    }
}
