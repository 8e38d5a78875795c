use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};

use super::super::certificate::{CertificateHeader, Provider};
use super::*;

/// 2026-06-01 to 2026-12-01, inside.
const NOW: UnixTime = UnixTime::from_secs(1_790_000_000);

struct Ca {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

fn ca(name: &str) -> Ca {
    let key = KeyPair::generate().unwrap();
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let pem = params.self_signed(&key).unwrap().pem();
    Ca { pem, issuer: Issuer::new(params, key) }
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2026, 6, 1);
    params.not_after = date_time_ymd(2026, 12, 1);
    params
}

fn signed(ca: &Ca, params: &CertificateParams) -> Shown {
    let certificate = params.signed_by(&KeyPair::generate().unwrap(), &ca.issuer).unwrap();
    shown(&certificate.pem())
}

fn shown(pem: &str) -> Shown {
    CertificateHeader::new(Provider::Apache).read(pem).unwrap().unwrap()
}

#[test]
fn a_certificate_must_be_of_an_authority() {
    let [ours, theirs] = [ca("ours"), ca("theirs")];
    let namesake = ca("ours");
    let rules = CertificateRules::new().issued_by(ours.pem.as_bytes()).unwrap();
    let good = signed(&ours, &params("client"));
    assert_eq!(rules.examine(&good, NOW), Ok(()));
    assert_eq!(rules.examine(&good, NOW), Ok(()), "from memory");
    use Unacceptable::{Authority, Purpose, Unverified};
    for (case, expected, stranger) in [
        ("another authority", Authority, signed(&theirs, &params("client"))),
        ("one of the same name", Unverified, signed(&namesake, &params("client"))),
        ("nobody", Authority, {
            let key = KeyPair::generate().unwrap();
            shown(&params("client").self_signed(&key).unwrap().pem())
        }),
        ("an authority itself", Unverified, shown(&ours.pem)),
        ("for servers alone", Purpose, {
            let mut server = params("server");
            server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            signed(&ours, &server)
        }),
        ("a critical extension that nobody knows", Unverified, {
            let mut odd = params("client");
            let mut extension =
                CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99], vec![5, 0]);
            extension.set_criticality(true);
            odd.custom_extensions = vec![extension];
            signed(&ours, &odd)
        }),
    ] {
        for _ in 0..2 {
            assert_eq!(rules.examine(&stranger, NOW), Err(expected), "{case}");
        }
    }
    let both = CertificateRules::new().issued_by((ours.pem + &theirs.pem).as_bytes()).unwrap();
    assert_eq!(both.examine(&signed(&theirs, &params("client")), NOW), Ok(()));
}

#[test]
fn a_certificate_without_extensions_is_told_as_such() {
    // RFC 8705, appendix A: X.509 version 1, valid from 2018 to 2022.
    let old = CertificateHeader::new(Provider::Haproxy).read("MIIBBjCBrAIBAjAKBggqhkjOPQQDAjAPMQ0wCwYDVQQDDARtdGxzMB4XDTE4MTAxODEyMzcwOVoXDTIyMDUwMjEyMzcwOVowDzENMAsGA1UEAwwEbXRsczBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABNcnyxwqV6hY8QnhxxzFQ03C7HKW9OylMbnQZjjJ/Au08/coZwxS7LfA4vOLS9WuneIXhbGGWvsDSb0tH6IxLm8wCgYIKoZIzj0EAwIDSQAwRgIhAP0RC1E+vwJD/D1AGHGzuri+hlV/PpQEKTWUVeORWz83AiEA5x2eXZOVbUlJSGQgjwD5vaUaKlLR50Q2DmFfQj1L+SY=").unwrap().unwrap();
    let then = UnixTime::from_secs(1_600_000_000);
    assert_eq!(CertificateRules::new().examine(&old, then), Ok(()));
    let rules = CertificateRules::new().issued_by(ca("mtls").pem.as_bytes()).unwrap();
    assert_eq!(rules.examine(&old, then), Err(Unacceptable::Version));
    assert_eq!(rules.examine(&old, NOW), Err(Unacceptable::Expired));
}

#[test]
fn a_changed_byte_is_another_certificate() {
    let ours = ca("ours");
    let rules = CertificateRules::new().issued_by(ours.pem.as_bytes()).unwrap();
    let good = signed(&ours, &params("client"));
    assert_eq!(rules.examine(&good, NOW), Ok(()));
    let der = good.der.unwrap();
    for place in (0..der.len()).step_by(7) {
        let mut changed = der.clone();
        changed[place] ^= 1;
        let changed = Shown::of(changed);
        assert!(rules.examine(&changed, NOW).is_err(), "byte {place}");
    }
}

#[test]
fn its_period_is_looked_at_each_time() {
    let ours = ca("ours");
    let rules =
        [CertificateRules::new(), CertificateRules::new().issued_by(ours.pem.as_bytes()).unwrap()];
    let good = signed(&ours, &params("client"));
    let [begin, end] = [date_time_ymd(2026, 6, 1), date_time_ymd(2026, 12, 1)];
    let [begin, end] = [begin.unix_timestamp(), end.unix_timestamp()];
    for rules in rules {
        for (now, expected) in [
            (begin - 1, Err(Unacceptable::NotYetValid)),
            (end + 1, Err(Unacceptable::Expired)),
            (begin, Ok(())),
            (end, Ok(())),
            (end + 1, Err(Unacceptable::Expired)), // which it was not when it was first seen
            (begin - 1, Err(Unacceptable::NotYetValid)),
            (i64::MIN, Err(Unacceptable::NotYetValid)),
            (i64::MAX, Err(Unacceptable::Expired)),
        ] {
            assert_eq!(rules.examine(&good, UnixTime::from_secs(now)), expected, "{now}");
        }
    }
}

#[test]
fn every_required_usage_must_be_there() {
    let ours = ca("ours");
    let mut signing = params("client");
    signing.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyAgreement];
    signing.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ClientAuth,
        ExtendedKeyUsagePurpose::Other(vec![1, 3, 6, 1, 4, 1, 311, 20, 2, 2]),
    ];
    let [signing, bare] = [signed(&ours, &signing), signed(&ours, &params("client"))];
    let judge = |usages: &[&str], purposes: &[&str], shown: &Shown| {
        let usages = usages.iter().map(|usage| usage.parse().unwrap()).collect();
        let purposes = purposes.iter().map(|purpose| purpose.parse().unwrap()).collect();
        CertificateRules::new().for_usages(usages, purposes).examine(shown, NOW)
    };
    let (usage, purpose) = (Err(Unacceptable::KeyUsage), Err(Unacceptable::ExtendedKeyUsage));
    for (usages, purposes, expected, of_bare) in [
        (&[][..], &[][..], Ok(()), Ok(())),
        (&["digitalSignature"], &[], Ok(()), usage),
        (&["digitalSignature", "keyAgreement"], &[], Ok(()), usage),
        (&["digitalSignature", "keyEncipherment"], &[], usage, usage),
        (&[], &["clientAuth"], Ok(()), purpose),
        (&[], &["1.3.6.1.5.5.7.3.2"], Ok(()), purpose),
        (&[], &["clientAuth", "1.3.6.1.4.1.311.20.2.2"], Ok(()), purpose),
        (&[], &["clientAuth", "1.3.6.1.4.1.311.20.2.3"], purpose, purpose),
        (&[], &["clientAuth", "emailProtection"], purpose, purpose),
        (&["cRLSign"], &["clientAuth"], usage, usage),
    ] {
        assert_eq!(judge(usages, purposes, &signing), expected, "{usages:?} {purposes:?}");
        assert_eq!(judge(usages, purposes, &bare), of_bare, "{usages:?} {purposes:?}, bare");
    }
    for name in ["digitalsignature", "", "clientAuth", "1"] {
        assert!(name.parse::<KeyUsage>().is_err(), "{name}");
    }
    for name in ["ClientAuth", "", "digitalSignature", "1", "1.", "1.02", "1.x", "-1.2"] {
        assert!(name.parse::<KeyPurpose>().is_err(), "{name}");
    }
}

#[test]
fn a_hash_alone_cannot_be_examined() {
    let ours = ca("ours");
    let rules = CertificateRules::new();
    let whole = signed(&ours, &params("client"));
    let hash = Shown::from(whole.thumbprint);
    assert_eq!(rules.examine(&hash, NOW), Err(Unacceptable::NotWhole));
    assert_eq!(rules.examine(&Shown::of(vec![0x30, 1, 0]), NOW), Err(Unacceptable::Unreadable));
}

#[test]
fn a_file_of_authorities_must_hold_some() {
    for text in ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        assert!(CertificateRules::new().issued_by(text.as_bytes()).is_err(), "{text}");
    }
    let leaf = params("client").self_signed(&KeyPair::generate().unwrap()).unwrap().pem();
    let wrong = CertificateRules::new().issued_by(leaf.as_bytes()).unwrap_err();
    assert!(wrong.contains("no authority"), "{wrong}");
}
