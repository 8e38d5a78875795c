//! The judgement alone: no runtime, no clock, no features.

use std::sync::Arc;
use std::time::Duration;

use vidimus::check::{
    AudienceRule, Claims, KeySet, Limits, NoCertificate, Policy, RawToken, RealmRules, Realms,
    UnixTime, Verification, authorize, verify,
};
use vidimus::{Denial, Grant};

const TOKEN: &str = include_str!("../token.txt");
const JWKS: &[u8] = include_bytes!("../jwks.json");

fn judge(token: &str, now: UnixTime) -> Result<Grant, Denial> {
    let mut rules = RealmRules::new("https://id.example.com/realms/shop");
    rules.audience = AudienceRule::OneOf(vec!["orders-api".into()]);
    let mut realms = Realms::new(vec![rules]).expect("one realm");
    realms.set_keys(0, KeySet::parse(JWKS).expect("a JWKS"), now);
    let policy = Arc::new(Policy::new("default", vec![0]));
    match verify(RawToken::new(token), &policy, &realms, Limits::default(), now) {
        Verification::Verified(proof) => {
            authorize(&Arc::new(proof), &policy, &realms, &NoCertificate, now)
        }
        Verification::Reject { denial, .. } => Err(denial),
        Verification::Needs(_) => Err(Denial::KeyUnknown),
        Verification::Introspect { .. } => Err(Denial::Opaque),
    }
}

#[test]
fn a_token_is_judged_by_what_is_handed_in() {
    let (token, now) = (TOKEN.trim(), UnixTime::from_secs(1_800_000_000));
    let grant = judge(token, now).expect("it is good");
    assert_eq!(grant.client(), Some("orders-web"));
    assert_eq!(grant.claim_set().audience().next(), Some("orders-api"));
    let _: fn(&Grant) -> &Claims = Grant::claim_set;

    let late = now.after(Duration::from_secs(305));
    assert_eq!(judge(token, late).unwrap_err(), Denial::Expired);
    let (head, _) = token.rsplit_once('.').expect("three parts");
    let (_, signature) = token.split_at(head.len() + 1);
    let changed: String = signature.chars().rev().collect();
    assert!(judge(&format!("{head}.{changed}"), now).is_err());
}
