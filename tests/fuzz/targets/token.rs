//! Any text as a token: refused without panic, and never verified, because nobody signed it.
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
    let mut realms = Realms::new(vec![rules]).expect("one realm");
    realms.set_keys(0, Arc::new(KeySet::parse(JWKS).expect("a JWKS")), NOW);
    realms
});

fuzz_target!(|text: &str| {
    let policy = Policy::new("default", vec![0]);
    let token = RawToken::new(text);
    assert!(!matches!(
        verify(token, &policy, &REALMS, Limits::default(), NOW),
        Verification::Verified(_)
    ));
    // The same bytes as a payload, so that the fuzzer need not find base64 first.
    if let Ok(json) = Json::parse(text.as_bytes().to_vec(), JsonLimits::TOKEN) {
        // serde_json reads the same: nothing is lost, and nothing it refuses gets by.
        let theirs: serde_json::Value = serde_json::from_str(text).expect("JSON to serde_json too");
        assert_eq!(serde_json::to_value(json.root()).expect("JSON"), theirs);
    }
});
