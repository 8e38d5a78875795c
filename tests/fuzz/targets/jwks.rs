//! Any bytes as a JWKS: keys or an error, and no key verifies nonsense.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vidimus::check::KeySet;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(set) = KeySet::parse(bytes) {
        for key in set.keys() {
            assert!(!key.verify(b"message", b"signature"));
            assert!(set.contains(key.id()));
        }
    }
});
