//! Any bytes as the answer of introspection: read without panic, and never a proof unless the JSON
//! says `active: true`.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use vidimus::check::*;

/// RFC 8037 appendix A.2: a public key whose private half is not used here.
const JWKS: &[u8] = br#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k","use":"sig","alg":"EdDSA",
"x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

static REALMS: LazyLock<Realms> = LazyLock::new(|| {
    let mut rules = RealmRules::new("i");
    rules.audience = AudienceRule::InsecureAny;
    let mut introspection = IntrospectionRules::new("c");
    introspection.prefer_jwt = true;
    rules.introspection = Some(introspection);
    let mut realms = Realms::new(vec![rules]).expect("one realm");
    realms.set_keys(0, Arc::new(KeySet::parse(JWKS).expect("a JWKS")), NOW);
    realms
});

fuzz_target!(|body: &[u8]| {
    if let Ok(reply) = Reply::signed(body) {
        let read = introspected(&reply, None, 0, &REALMS, NOW);
        assert!(!matches!(read, Ok(Introspected::Active(_))), "nobody signed it");
    }
    let Ok(reply) = Reply::json(body.to_vec()) else { return };
    if let Ok(Introspected::Active(told)) = introspected(&reply, None, 0, &REALMS, NOW) {
        let json: serde_json::Value = serde_json::from_slice(body).expect("JSON");
        assert_eq!(json["active"], true);
        assert_eq!(json["iss"], "i");
        assert!(json.get("jwt").is_none(), "nobody signed it");
        assert!(
            told.introspected()
                && told.claims().expires() > NOW.before(std::time::Duration::from_secs(5))
        );
    }
});
