use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;

use super::*;

/// RFC 8705, appendix A, figures 5 and 6.
const THUMBPRINT: &str = "A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0";
const HEX: &str = "0380ed2f626650c840b2f263e6d2b29fae12ab39ae5db32b25ad27efad72e6fd";
const BASE64: &str = "MIIBBjCBrAIBAjAKBggqhkjOPQQDAjAPMQ0wCwYDVQQDDARtdGxzMB4XDTE4MTAxODEyMzcwOVoXDTIyMDUwMjEyMzcwOVowDzENMAsGA1UEAwwEbXRsczBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABNcnyxwqV6hY8QnhxxzFQ03C7HKW9OylMbnQZjjJ/Au08/coZwxS7LfA4vOLS9WuneIXhbGGWvsDSb0tH6IxLm8wCgYIKoZIzj0EAwIDSQAwRgIhAP0RC1E+vwJD/D1AGHGzuri+hlV/PpQEKTWUVeORWz83AiEA5x2eXZOVbUlJSGQgjwD5vaUaKlLR50Q2DmFfQj1L+SY=";

fn pem(line: &str) -> String {
    let body: Vec<_> = BASE64.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("{BEGIN}{line}{}{line}{END}{line}", body.join(line))
}

/// Everything but what RFC 3986 leaves alone; with `safe`, those too.
fn escaped(text: &str, safe: &str) -> String {
    let plain = |byte: u8| {
        byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || safe.as_bytes().contains(&byte)
    };
    let one = |byte: u8| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}

fn read(provider: Provider, text: &str) -> Result<Option<Thumbprint>, CertificateError> {
    let read = CertificateHeader::new(provider).read(text);
    read.map(|shown| shown.map(|shown| shown.thumbprint))
}

fn own() -> Result<Option<Thumbprint>, CertificateError> {
    Ok(Thumbprint::parse(THUMBPRINT))
}

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

const BAD: Result<Option<Thumbprint>, CertificateError> = Err(CertificateError::Malformed);

#[test]
fn every_provider_spells_one_certificate_in_its_own_way() {
    use Provider::*;
    for (provider, text) in [
        (Nginx, escaped(&pem("\n"), "")),
        (Nginx, escaped(&pem("\r\n"), "")),
        (AwsAlb, escaped(&pem("\n"), "+=/")),
        (Apache, pem(" ")),
        (Apache, format!("\"{}\"", pem(" "))),
        (Nginx, pem("\t")), // $ssl_client_cert, as it once was
        (Haproxy, BASE64.into()),
        (Haproxy, format!("\"{BASE64}\"")),
        (Rfc9440, format!(":{BASE64}:")),
        (Rfc9440, BASE64.into()), // Keycloak's guide for HAProxy
        (Traefik, BASE64.into()),
        (Traefik, format!("{BASE64},{BASE64}")),
        (Traefik, escaped(BASE64, "")), // before 2.9.4
        (Thumbprint, THUMBPRINT.into()),
        (Thumbprint, HEX.into()),
        (Thumbprint, HEX.to_uppercase()),
        (Thumbprint, format!("03:80:{}", &HEX[4..])),
        (Envoy, format!("Hash={HEX}")),
        (Envoy, format!("Cert=\"{}\"", escaped(&pem("\n"), ""))),
        (Envoy, format!("By=spiffe://a;Hash={HEX};Cert=\"{}\"", escaped(&pem("\n"), ""))),
    ] {
        assert_eq!(read(provider, &text), own(), "{provider}: {text}");
        assert_eq!(read(provider, &format!("  {text} ")), own(), "{provider}, with spaces: {text}");
    }
}

#[test]
fn what_means_none_is_none() {
    let of_nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    for provider in Provider::ALL.iter().copied() {
        for text in ["", " ", "-", "(null)"] {
            assert_eq!(read(provider, text), Ok(None), "{provider}: {text:?}");
        }
        for text in ["\"\"", "\"(null)\"", "::"] {
            // In Envoy's header quotes belong to values.
            let expected = if provider == Provider::Envoy { BAD } else { Ok(None) };
            assert_eq!(read(provider, text), expected, "{provider}: {text:?}");
        }
    }
    assert_eq!(read(Provider::Thumbprint, of_nothing), Ok(None), "Caddy without a certificate");
}

#[test]
fn what_is_no_certificate_is_malformed_never_none() {
    let wrapped = STANDARD
        .encode(STANDARD.decode(BASE64).unwrap().into_iter().chain([0]).collect::<Vec<_>>());
    let short = STANDARD.encode(&STANDARD.decode(BASE64).unwrap()[..200]);
    for text in [
        "null".to_owned(),
        "none".into(),
        "MA==".into(),
        "MAA=".into(),
        "AAAA".into(),
        BASE64.replace('+', " "),        // a `+` that became a space
        BASE64.replace(['+', '/'], "-"), // base64url
        BASE64.trim_end_matches('=').into(),
        format!("{BASE64}{BASE64}"),
        format!("{BASE64},{BASE64}"),
        wrapped, // a byte after the certificate
        short,
        format!(":{BASE64}"),
        format!("{BASE64}:"),
        format!("::{BASE64}::"),
        format!("{BEGIN}{BASE64}"),
        pem("\n").replace("CERTIFICATE", "PRIVATE KEY"),
        escaped(&pem("\n"), "").replace("%0A", "%0"),
        escaped(&pem("\n"), "") + "%",
        "%zz".into(),
        "%ff".into(),
        HEX.into(),
        THUMBPRINT.into(),
    ] {
        for provider in [
            Provider::Nginx,
            Provider::Haproxy,
            Provider::Apache,
            Provider::Rfc9440,
            Provider::AwsAlb,
        ] {
            assert_eq!(read(provider, &text), BAD, "{provider}: {text}");
        }
    }
    for text in [
        &HEX[..40], // SHA-1
        &HEX[..62],
        &HEX[..63],
        &format!("{HEX}00"),
        &HEX.replace('0', "g"),
        &THUMBPRINT[..42],
        &format!("{THUMBPRINT}="),
        &THUMBPRINT.replace('v', "+"),
        "A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v1", // stray bits
        BASE64,
    ] {
        assert_eq!(read(Provider::Thumbprint, text), BAD, "{text}");
    }
}

#[test]
fn of_a_pem_bundle_the_first_certificate_counts() {
    let other = pem("\n").replace("MIIBBjCB", "MIIBBjCC");
    assert_eq!(read(Provider::Nginx, &escaped(&(pem("\n") + &other), "")), own());
    assert_ne!(read(Provider::Nginx, &escaped(&(other + &pem("\n")), "")), own());
}

#[test]
fn two_headers_that_were_merged_into_one_are_refused() {
    let other = |text: String| text.replace("MIIBBjCB", "MIIBBjCC");
    let (nginx, apache) = (escaped(&pem("\n"), ""), pem(" "));
    for (provider, text) in [
        (Provider::Apache, format!("{apache}, {}", other(pem(" ")))),
        (Provider::Apache, format!("{apache},{}", other(pem(" ")))),
        (Provider::Apache, format!("{apache}, (null)")),
        (Provider::Nginx, format!("{nginx}, {}", other(nginx.clone()))),
        (Provider::Nginx, format!("{nginx},{nginx}")),
        // With an end of the client's own choice.
        (Provider::Apache, format!("{apache} {BEGIN}, {}", pem(" "))),
        (Provider::Apache, format!("{apache} {BEGIN}, (null)")),
        (Provider::Apache, format!("{apache} {BEGIN} MIIB, {BASE64}")),
        (Provider::Apache, format!("{apache} {apache}, {apache}")),
        (Provider::Traefik, format!("{BASE64}, {BASE64}")),
        (Provider::Traefik, format!("{BASE64},{BASE64}, {BASE64}")),
        (Provider::Traefik, format!("{BASE64},, {BASE64}")),
    ] {
        assert_eq!(read(provider, &text), Err(CertificateError::Repeated), "{provider}: {text}");
    }
    for (provider, text) in [
        (Provider::Haproxy, format!("{BASE64}, {BASE64}")),
        (Provider::Rfc9440, format!(":{BASE64}:, :{BASE64}:")),
        (Provider::Thumbprint, format!("{HEX}, {HEX}")),
        (Provider::Apache, format!("(null), {apache}")),
        (Provider::Apache, format!("{apache}x")),
        (Provider::Apache, format!("{apache} {BEGIN}")),
        (Provider::Apache, format!("{apache} {BEGIN} MIIB")),
        (Provider::Apache, format!("{apache} {BEGIN} MIIB -----END")),
        (Provider::Traefik, format!("{BASE64},x")),
        (Provider::Traefik, format!("{BASE64},")),
        (Provider::Traefik, format!("{BASE64},,{BASE64}")),
        (Provider::Apache, format!("{apache}-----BEGIN PRIVATE KEY-----")),
    ] {
        assert_eq!(read(provider, &text), BAD, "{provider}: {text}");
    }
}

fn found(
    provider: Provider,
    headers: &[(&'static str, &str)],
    peer: Peer,
) -> Result<Option<Thumbprint>, CertificateError> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, HeaderValue::from_str(value).unwrap());
    }
    let header = CertificateHeader::new(provider);
    let found = header.find(&map, peer, &TrustedProxies::default());
    found.map(|shown| shown.map(|shown| shown.thumbprint))
}

#[test]
fn the_header_counts_once_and_from_trusted_peers_only() {
    use Provider::{Haproxy, Thumbprint};
    let stranger = Peer::Ip([10, 0, 0, 1].into());
    let own_header = ("x-client-cert-sha256", HEX);
    assert_eq!(found(Thumbprint, &[own_header], Peer::Unix), own());
    assert_eq!(found(Thumbprint, &[], Peer::Unix), Ok(None));
    assert_eq!(found(Thumbprint, &[], stranger), Ok(None), "nothing to believe");
    assert_eq!(found(Thumbprint, &[own_header], stranger), Err(CertificateError::Untrusted));
    for second in [
        own_header,
        ("x_client_cert_sha256", HEX),
        ("x-client_cert-sha256", ""),
        ("x-client-cert-sha256", "-"),
    ] {
        for headers in [[own_header, second], [second, own_header]] {
            let found = found(Thumbprint, &headers, Peer::Unix);
            assert_eq!(found, Err(CertificateError::Repeated), "{headers:?}");
        }
    }
    assert_eq!(found(Haproxy, &[("ssl_client_cert", BASE64)], Peer::Unix), own());
    // Alone it is the client's: the proxy, which has no certificate to tell of, sends nothing.
    for (provider, alias, value) in [
        (Haproxy, "ssl-client-cert", BASE64),
        (Haproxy, "ssl_client-cert", BASE64),
        (Thumbprint, "x_client_cert_sha256", HEX),
        (Thumbprint, "x_client_cert_sha256", ""),
    ] {
        let found = found(provider, &[(alias, value)], Peer::Unix);
        assert_eq!(found, Err(CertificateError::Repeated), "{alias}");
    }
}

#[test]
fn a_missing_certificate_is_explained_by_what_came_instead() {
    for (provider, sent, expected) in [
        (None, None, "there is no [client_certificate]"),
        (Some(Provider::Nginx), None, "ssl-client-cert is missing: the client showed none"),
        (Some(Provider::Nginx), Some("ssl-client-cert"), "says that the client showed none"),
        (
            Some(Provider::Haproxy),
            Some("x-client-cert-sha256"),
            "and x-client-cert-sha256 is there",
        ),
    ] {
        let certificate = provider.map(CertificateHeader::new);
        let settings = EdgeSettings { certificate, ..EdgeSettings::default() };
        let mut headers = HeaderMap::new();
        if let Some(name) = sent {
            headers.insert(name, HeaderValue::from_static("-"));
        }
        let why = Forwarded::new(&headers, Peer::Unix, &settings).why_missing();
        assert!(why.contains(expected), "{why}");
    }
}

#[test]
fn of_xfcc_an_element_must_agree_with_itself() {
    let cert = escaped(&pem("\n"), "");
    let zeros = "0".repeat(64);
    let read = |text: &str| read(Provider::Envoy, text);
    for text in [
        format!("By=b;By=c;Hash={HEX};URI=c;URI=d;DNS=e"),
        format!("Subject=\"CN=a,OU=\\\"b\\;c\\\"\";Hash={HEX}"),
        format!("Subject=\"\";hash={HEX}"),
        format!("Subject=\"a\\\\\";HASH=\"{HEX}\""),
        format!("Hash={HEX};Chain=\"{cert}{cert}\""),
        format!("Subject=;Cert={cert}"),
    ] {
        assert_eq!(read(&text), own(), "{text}");
    }
    for text in ["By=a", "Subject=\"CN=a\"", "Hash=", "By=a;Hash=;Cert=\"\""] {
        assert_eq!(read(text), Ok(None), "{text}");
    }
    for text in [
        format!("Hash={zeros};Cert=\"{cert}\""),
        format!("Hash={HEX};Hash={HEX}"),
        format!("Cert={cert};Hash={HEX};cert={cert}"),
        format!("Hash={HEX};"),
        format!(",Hash={HEX}"),
        format!(";Hash={HEX}"),
        format!("Hash={HEX};By"),
        format!("=a;Hash={HEX}"),
        format!("H ash={HEX}"),
        format!("Subject=\"a;Hash={HEX}"),
        format!("\"Hash={HEX}\""),
        // What Envoy adds after a client's own text (APPEND_FORWARD) must not close the client's quotes.
        format!("\"Hash={HEX};URI=\",Hash={zeros};Subject=\"\""),
        format!("Subject=\"a\"b;Hash={HEX}"),
        format!("Subject=a\"b;Hash={HEX}"),
        // Not its end, though no comma and no semicolon follow: the proxy's own element comes after.
        format!("Hash={HEX};Subject=\"a\"b,Hash={zeros}"),
        format!("Hash={HEX};Subject=\"a\"\u{123},Hash={zeros}"),
        format!("Hash={HEX};Subject=\",Hash={zeros}"),
        format!("Hash={}", &HEX[..40]),
        format!("Hash={HEX}00"),
        format!("Cert={HEX}"),
        "nonsense".into(),
    ] {
        assert_eq!(read(&text), BAD, "{text}");
    }
}

#[test]
fn of_several_xfcc_elements_the_last_counts_and_only_where_they_are_allowed() {
    let zeros = "0".repeat(64);
    let mut appended = CertificateHeader::new(Provider::Envoy);
    appended.append_forward = true;
    for (text, expected) in [
        (format!("Hash={zeros},Hash={HEX}"), own()),
        (format!("By=a,By=b;Hash={HEX};URI=c"), own()),
        (format!("Subject=\"\",hash={HEX}"), own()),
        (format!("Hash={HEX},By=a"), Ok(None)),
        // The certificate's own names, which Envoy writes as they are: why one element is the default.
        (format!("Hash={zeros};URI=spiffe://a,Hash={HEX}"), own()),
    ] {
        let read = appended.read(&text).map(|shown| shown.map(|shown| shown.thumbprint));
        assert_eq!(read, expected, "{text}");
        assert_eq!(
            CertificateHeader::new(Provider::Envoy).read(&text),
            Err(CertificateError::Repeated),
            "{text}"
        );
    }
    for text in [
        format!("Hash={HEX},"),
        format!(",Hash={HEX}"),
        format!("Hash={HEX};Subject=\",Hash={zeros}"),
        format!("Hash={HEX};Subject=\"a\"b,Hash={zeros}"),
        format!("Hash={HEX};Subject=\"a\"\u{123},Hash={zeros}"),
        // An open quote that one in the certificate's names closes.
        format!("Hash={HEX};X=\",By=b;Hash={zeros};URI=a\""),
        format!("Hash={HEX};X=\"\\\",By=b;Hash={zeros};URI=a\""),
    ] {
        assert_eq!(appended.read(&text), Err(CertificateError::Malformed), "{text}");
    }
}
