use std::collections::HashMap;

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::{HeaderMap as Raw, HeaderValue as RawHeader};
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer, Request};
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest};
use proptest::collection::{hash_map, vec};
use proptest::prelude::*;
use prost::Message as _;

use http::header::{HeaderMap, HeaderValue};

use super::question::is_looked_at;
use super::*;
use crate::edge::certificate::{CertificateHeader, Provider};

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[a-z-]{1,12}", ".{0,200}"]
}

prop_compose! {
    /// Everything that is read, amid things that are not.
    fn request()(
        certificate in text(),
        principal in text(),
        method in text(),
        path in text(),
        body in vec(any::<u8>(), 0..300),
        size in any::<i64>(),
        headers in hash_map(text(), text(), 0..6),
        raw in vec((text(), text(), vec(any::<u8>(), 0..40)), 0..6),
        extensions in hash_map(prop_oneof![Just("policy".to_owned()), text()], text(), 0..3),
    ) -> CheckRequest {
        let raw = raw.into_iter().map(|(key, value, raw_value)| RawHeader { key, value, raw_value });
        let http = HttpRequest {
            method,
            path,
            size,
            raw_body: body,
            headers,
            header_map: Some(Raw { headers: raw.collect() }),
            ..HttpRequest::default()
        };
        CheckRequest {
            attributes: Some(AttributeContext {
                source: Some(Peer { certificate, principal, ..Peer::default() }),
                request: Some(Request { http: Some(http), ..Request::default() }),
                context_extensions: extensions,
                ..AttributeContext::default()
            }),
        }
    }
}

proptest! {
    #[test]
    fn reads_what_generated_code_writes(request in request()) {
        let bytes = Bytes::from(request.encode_to_vec());
        let read = Question::read(&bytes).unwrap();
        let attributes = request.attributes.unwrap();
        let http = attributes.request.unwrap().http.unwrap();
        prop_assert_eq!(read.policy, attributes.context_extensions.get("policy").map(|it| &**it));
        prop_assert_eq!(read.certificate, attributes.source.unwrap().certificate);
        prop_assert_eq!((read.method, read.path), (http.method.as_bytes(), http.path.as_bytes()));
        let headers: HashMap<_, _> =
            read.headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        prop_assert_eq!(headers, http.headers);
        let raw: Vec<_> = http.header_map.unwrap().headers;
        let expected: Vec<_> = raw
            .iter()
            .map(|it| match it.raw_value.is_empty() {
                true => (&*it.key, it.value.as_bytes()),
                false => (&*it.key, &*it.raw_value),
            })
            .collect();
        prop_assert_eq!(read.raw_headers, expected);
    }

    #[test]
    fn takes_no_bytes_that_generated_code_refuses(
        request in request(),
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = request.encode_to_vec();
        prop_assume!(!bytes.is_empty());
        let place = place.index(bytes.len());
        bytes[place] = byte;
        let bytes = Bytes::from(bytes);
        // It looks at more fields than we do, so it may refuse more; in what both take they agree.
        if let (Ok(read), Ok(theirs)) = (Question::read(&bytes), CheckRequest::decode(&*bytes)) {
            let attributes = theirs.attributes.unwrap_or_default();
            let certificate = attributes.source.unwrap_or_default().certificate;
            prop_assert_eq!(read.certificate, certificate);
            let policy = attributes.context_extensions.get("policy").map(|it| &**it);
            prop_assert_eq!(read.policy, policy);
        }
    }
}

fn settings(sources: &[&str]) -> EdgeSettings {
    EdgeSettings {
        sources: sources.iter().map(|source| source.parse().unwrap()).collect(),
        certificate: Some(CertificateHeader::new(Provider::Envoy)),
        ..EdgeSettings::default()
    }
}

/// A question of these headers, and what of them is taken.
fn taken(raw: &[(&str, &str)], texts: &[(&str, &str)], sources: &[&str]) -> Option<HeaderMap> {
    let raw = raw.iter().map(|(key, value)| RawHeader {
        key: (*key).to_owned(),
        raw_value: value.as_bytes().to_owned(),
        ..RawHeader::default()
    });
    let http = HttpRequest {
        headers: texts.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        header_map: Some(Raw { headers: raw.collect() }),
        ..HttpRequest::default()
    };
    let request = Request { http: Some(http), ..Request::default() };
    let attributes = AttributeContext { request: Some(request), ..AttributeContext::default() };
    let message = Bytes::from(CheckRequest { attributes: Some(attributes) }.encode_to_vec());
    Question::read(&message).unwrap().headers(&settings(sources))
}

#[test]
fn of_the_headers_those_that_are_looked_at_are_taken_raw_if_there_are_any() {
    let texts = [("authorization", "Bearer text"), ("cookie", "a=b"), ("x-other", "x")];
    let found = taken(&[], &texts, &["authorization"]).unwrap();
    assert_eq!(
        (found.len(), &found["authorization"]),
        (1, &HeaderValue::from_static("Bearer text"))
    );
    assert_eq!(taken(&[], &texts, &["cookie:a"]).unwrap()["cookie"], "a=b");

    let raw = [
        ("Authorization", "Bearer raw"),
        ("x-forwarded-client-cert", "Hash=a,Hash=b"),
        ("x_forwarded_client_cert", "Hash=c"),
        (":path", "/"),
    ];
    let found = taken(&raw, &texts, &["authorization"]).unwrap();
    assert_eq!(found["authorization"], "Bearer raw");
    assert_eq!(found["x-forwarded-client-cert"], "Hash=a,Hash=b", "elements, not lines");
    assert_eq!(found["x_forwarded_client_cert"], "Hash=c", "an alias is looked at too");
    assert_eq!(found.len(), 3);
}

#[test]
fn the_header_of_another_proxy_is_the_clients_own() {
    for provider in Provider::ALL.iter().copied() {
        let header = CertificateHeader::new(provider);
        let name = header.name.clone();
        let settings = EdgeSettings { certificate: Some(header), ..settings(&["authorization"]) };
        assert_eq!(is_looked_at(name.as_str(), &settings), provider == Provider::Envoy, "{name}");
    }
}

#[test]
fn two_credentials_that_envoy_has_joined_are_two() {
    for joined in ["Bearer a,Bearer b", "Bearer a, Bearer a", "Basic eA==,Bearer a", "Bearer a,"] {
        let found = taken(&[], &[("authorization", joined)], &["authorization"]).unwrap();
        let denied = credential::find(&found, &settings(&["authorization"]).sources).unwrap_err();
        assert_eq!(denied, Denial::CredentialRepeated, "{joined}");
    }
    assert!(taken(&[], &[("authorization", "a\nb")], &["authorization"]).is_none(), "no header");
}
