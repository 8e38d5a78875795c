//! Any text as a forwarded certificate, in every provider's spelling: read without panic, and what is
//! read is one certificate, the same in any other spelling, and nothing around it.
#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use libfuzzer_sys::fuzz_target;
use vidimus::check::{Thumbprint, UnixTime};
use vidimus::edge::certificate::{CertificateHeader, Provider};
use vidimus::edge::x509::CertificateRules;

fuzz_target!(|text: &str| {
    for provider in Provider::ALL.iter().copied() {
        let Ok(Some(shown)) = CertificateHeader::new(provider).read(text) else { continue };
        assert!(shown.thumbprint != Thumbprint::of(&[]), "nothing is not a certificate");
        let Some(der) = &shown.der else {
            // A hash has 64 hex digits or 43 characters of base64url; nothing shorter will do.
            assert!(text.len() >= 43, "{provider}: {text:?}");
            continue;
        };
        assert!(shown.thumbprint == Thumbprint::of(der));
        assert_eq!(der[0], 0x30, "a SEQUENCE");
        let again = STANDARD.encode(der);
        let others = [
            (Provider::Haproxy, again.clone()),
            (Provider::Rfc9440, format!(":{again}:")),
            (Provider::Traefik, format!("{again},{again}")),
            (Provider::Envoy, format!("Cert=\"{again}\"")),
        ];
        for (other, text) in others {
            let read = CertificateHeader::new(other)
                .read(&text)
                .expect("it was read before")
                .expect("a certificate");
            assert!(read.thumbprint == shown.thumbprint, "{provider} and {other}");
        }
        // Two headers that a proxy has merged: the client's comes first, and must not count.
        for merged in [format!("{text}, {again}"), format!("{text}, (null)"), format!("{text}, -")]
        {
            let merged = CertificateHeader::new(provider).read(&merged);
            assert!(merged.is_err(), "{provider}: {text:?}");
        }
        // Whoever looks inside may refuse, and that is all.
        let _ = CertificateRules::new().examine(&shown, UnixTime::from_secs(1_800_000_000));
    }
});
