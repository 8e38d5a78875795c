//! Where the client's certificate comes from, and what is said where it does not count.

use super::*;

#[tokio::test]
async fn the_clients_certificate_comes_from_one_place_and_never_from_two() {
    use CertificateFrom::{Configured, Connection, Header};
    use Denial::{
        CertificateMismatch, CertificateMissing, CertificateRepeated, CertificateUntrusted,
    };
    let mine = Thumbprint::of(b"mine");
    let hex = |bytes: &[u8]| {
        Thumbprint::of(bytes).as_bytes().iter().map(|b| format!("{b:02x}")).collect::<String>()
    };
    let plain = World::new().await;
    let proxied = World::with(|builder| builder.client_certificate(Provider::Thumbprint)).await;
    let near = Some(Peer::Ip([127, 0, 0, 1].into()));
    let far = Some(Peer::Ip([192, 0, 2, 1].into()));
    // Whether there is [client_certificate], where it is looked for, who asks, what comes in the header and
    // what in the extension.
    for (case, world, from, peer, header, extension, expected) in [
        ("nothing anywhere", &plain, Configured, near, None, None, Some(CertificateMissing)),
        ("the connection's", &plain, Configured, None, None, Some("mine"), None),
        (
            "another connection's",
            &plain,
            Configured,
            None,
            None,
            Some("thief"),
            Some(CertificateMismatch),
        ),
        (
            "a header that nobody asked for",
            &plain,
            Configured,
            near,
            Some("mine"),
            None,
            Some(CertificateMissing),
        ),
        (
            "such a header of a thief",
            &plain,
            Configured,
            near,
            Some("mine"),
            Some("thief"),
            Some(CertificateMismatch),
        ),
        ("a proxy's header", &proxied, Configured, near, Some("mine"), None, None),
        (
            "a stranger's header",
            &proxied,
            Configured,
            far,
            Some("mine"),
            None,
            Some(CertificateUntrusted),
        ),
        (
            "a header from nobody knows whom",
            &proxied,
            Configured,
            None,
            Some("mine"),
            None,
            Some(CertificateUntrusted),
        ),
        (
            "the proxy's own connection alone",
            &proxied,
            Configured,
            near,
            None,
            Some("mine"),
            Some(CertificateRepeated),
        ),
        (
            "both, and equal",
            &proxied,
            Configured,
            near,
            Some("mine"),
            Some("mine"),
            Some(CertificateRepeated),
        ),
        ("both, the header told", &proxied, Header, near, Some("mine"), Some("proxy"), None),
        (
            "the proxy is not its client",
            &proxied,
            Header,
            near,
            None,
            Some("mine"),
            Some(CertificateMissing),
        ),
        (
            "both, the connection told",
            &proxied,
            Connection,
            near,
            Some("mine"),
            Some("thief"),
            Some(CertificateMismatch),
        ),
        ("the connection told", &proxied, Connection, near, Some("thief"), Some("mine"), None),
        (
            "the connection told, without",
            &proxied,
            Connection,
            near,
            Some("mine"),
            None,
            Some(CertificateMissing),
        ),
    ] {
        let token = world.token(json!({ "cnf": { "x5t#S256": mine.to_string() } }));
        let mut request = ask(&token);
        if let Some(held) = header {
            request
                .headers_mut()
                .insert("x-client-cert-sha256", hex(held.as_bytes()).parse().unwrap());
        }
        request.extensions_mut().extend(peer.map(one).unwrap_or_default());
        let certificate =
            extension.map(|held: &str| TlsClientCertificate::from_der(held.as_bytes()));
        request.extensions_mut().extend(certificate.map(one).unwrap_or_default());
        let layer = world.layer().certificate_from(from);
        assert_eq!(denial(&layer, request).await, expected, "{case}");
    }
}

#[tokio::test]
async fn the_rules_for_certificates_hold_for_those_of_the_connection_too() {
    let issuer = Issuer::local().await.unwrap();
    let text = format!(
        "[[realm]]\nissuer = {:?}\naudience = [\"orders-api\"]\n\
         [client_certificate]\nprovider = \"nginx\"\ncheck_validity = true\n",
        issuer.issuer()
    );
    let gate = Gate::from_toml(&text).unwrap();
    gate.ready().await;
    let layer = CheckLayer::new(&gate, "default").unwrap();
    let layer = layer.certificate_from(CertificateFrom::Connection);
    for (until, expected) in [(2999, None), (2001, Some(Denial::CertificateUnacceptable))] {
        let mut params = rcgen::CertificateParams::new(["client".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let der = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec();
        let bound = json!({ "cnf": { "x5t#S256": Thumbprint::of(&der).to_string() } });
        let mut request = ask(&issuer.token(bound).unwrap());
        request.extensions_mut().insert(TlsClientCertificate::from_der(&der));
        assert_eq!(denial(&layer, request).await, expected, "{until}");
    }
}

#[tokio::test]
async fn a_certificate_that_does_not_count_is_told_once_with_what_to_do() {
    let proxied = World::with(|builder| builder.client_certificate(Provider::Thumbprint)).await;
    let plain = World::new().await;
    let hash = Thumbprint::of(b"mine");
    let (header, extension) = (true, true);
    let far = Some(Peer::Ip([192, 0, 2, 1].into()));
    for (world, peer, in_header, in_extension, remedy) in [
        (&proxied, None, header, !extension, "CheckLayer::peer"),
        (&proxied, far, header, !extension, "192.0.2.1, is not in trusted_proxies"),
        (&proxied, far, !header, extension, "CheckLayer::certificate_from"),
        (&proxied, far, !header, !extension, "the header x-client-cert-sha256 is missing"),
        (&plain, far, header, !extension, "edge::client::TlsClientCertificate"),
    ] {
        let layer = world.layer();
        let token = world.token(json!({ "cnf": { "x5t#S256": hash.to_string() } }));
        let (log, _guard) = log();
        for _ in 0..2 {
            let mut request = ask(&token);
            if in_header {
                let value = hash.to_string().parse().unwrap();
                request.headers_mut().insert("x-client-cert-sha256", value);
            }
            request.extensions_mut().extend(peer.map(one).unwrap_or_default());
            if in_extension {
                request.extensions_mut().insert(TlsClientCertificate::from_der(b"mine"));
            }
            assert!(denial(&layer, request).await.is_some());
            assert!(denial(&layer, ask("not.a.token")).await.is_some(), "which warns of nothing");
        }
        let lines = log();
        let told: Vec<_> = lines.lines().filter(|line| line.contains("WARN")).collect();
        assert_eq!(told.len(), 1, "{lines}");
        assert!(told[0].contains(remedy) && told[0].contains("policy=\"default\""), "{told:?}");
        assert!(!lines.contains(&token) && !lines.contains(&hash.to_string()), "{lines}");
        assert!(lines.contains("policy=\"default\" reason=\"token_malformed\""), "{lines}");
    }
}
