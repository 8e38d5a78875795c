//! Envoy's side of `ext_authz` by gRPC, with the types that are generated from its API.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::core::v3::{HeaderMap, HeaderValue, HeaderValueOption};
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer, Request};
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest, CheckResponse};
use http::Response;
use http_body_util::Full;
use hyper::body::Bytes;
use prost::Message as _;

/// A question with these headers, raw (`encode_raw_headers`).
pub(crate) fn check_request(policy: &str, headers: &[(&str, &str)]) -> CheckRequest {
    let header = |(name, value): &(&str, &str)| HeaderValue {
        key: (*name).to_owned(),
        raw_value: value.as_bytes().to_owned(),
        ..HeaderValue::default()
    };
    let http = HttpRequest {
        method: "GET".into(),
        path: "/orders/7?x=/auth/admin".into(),
        header_map: Some(HeaderMap { headers: headers.iter().map(header).collect() }),
        ..HttpRequest::default()
    };
    CheckRequest {
        attributes: Some(AttributeContext {
            source: Some(Peer::default()),
            request: Some(Request { http: Some(http), ..Request::default() }),
            context_extensions: HashMap::from([("policy".to_owned(), policy.to_owned())]),
            ..AttributeContext::default()
        }),
    }
}

/// The same as it goes over the wire.
#[allow(dead_code, reason = "not every test asks in memory")]
pub(crate) fn question(policy: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    check_request(policy, headers).encode_to_vec()
}

/// What Envoy makes of an answer: for the client if it is denied, else for the service, with the headers
/// that are removed in `x-envoy-auth-headers-to-remove`, and empty.
#[allow(dead_code, reason = "not every test asks in memory")]
pub(crate) fn answer(bytes: &[u8]) -> Response<Full<Bytes>> {
    let answer = CheckResponse::decode(bytes).expect("a CheckResponse");
    let code = answer.status.expect("a status").code;
    let (status, headers, removed, body) = match answer.http_response.expect("an answer") {
        HttpResponse::OkResponse(ok) => {
            assert_eq!(code, 0);
            (200, ok.headers, ok.headers_to_remove, String::new())
        }
        HttpResponse::DeniedResponse(denied) => {
            assert_ne!(code, 0, "Envoy takes 0 for OK");
            let status = denied.status.expect("a status").code;
            (u16::try_from(status).expect("a status"), denied.headers, Vec::new(), denied.body)
        }
        HttpResponse::ErrorResponse(_) => {
            panic!("an error lets requests pass, if Envoy is told so")
        }
    };
    let mut response = Response::builder().status(status);
    for HeaderValueOption { header, append_action, .. } in headers {
        assert_eq!(append_action, 2, "OVERWRITE_IF_EXISTS_OR_ADD");
        let header = header.expect("a header");
        response = response.header(header.key, header.value);
    }
    if !removed.is_empty() {
        for name in removed.iter().filter(|name| !name.contains('_')) {
            response = response.header(name, "");
        }
        let removed = removed.join(",").to_lowercase();
        response = response.header("x-envoy-auth-headers-to-remove", removed);
    }
    response.body(Full::new(Bytes::from(body))).expect("a response")
}
