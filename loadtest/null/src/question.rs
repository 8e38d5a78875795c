//! What Envoy asks about a browser's request: 20 headers, raw.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::core::v3::{HeaderMap, HeaderValue};
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer, Request};
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest};
use prost::Message as _;

use crate::Outcome;
use crate::options::Options;

pub(crate) fn write(options: &Options) -> Outcome {
    let bearer = format!("Bearer {}", options.need("token")?);
    let headers = HEADERS.into_iter().chain([("authorization", &*bearer)]);
    let headers = headers.map(|(name, value)| HeaderValue {
        key: name.to_owned(),
        raw_value: value.as_bytes().to_owned(),
        ..HeaderValue::default()
    });
    let http = HttpRequest {
        id: "14130938126042131745".into(),
        method: "GET".into(),
        path: "/orders/7".into(),
        host: "shop.example.com".into(),
        scheme: "https".into(),
        protocol: "HTTP/1.1".into(),
        header_map: Some(HeaderMap { headers: headers.collect() }),
        ..HttpRequest::default()
    };
    let message = CheckRequest {
        attributes: Some(AttributeContext {
            source: Some(Peer::default()),
            destination: Some(Peer::default()),
            request: Some(Request { http: Some(http), ..Request::default() }),
            context_extensions: HashMap::from([("policy".to_owned(), "default".to_owned())]),
            ..AttributeContext::default()
        }),
    };
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len())?.to_be_bytes();
    std::fs::write(options.need("out")?, [&[0], &length[..], &message].concat())?;
    Ok(())
}

const HEADERS: [(&str, &str); 19] = [
    (":authority", "shop.example.com"),
    (":method", "GET"),
    (":path", "/orders/7"),
    (":scheme", "https"),
    ("accept", "application/json"),
    ("accept-encoding", "gzip, deflate, br"),
    ("accept-language", "en-GB,en;q=0.5"),
    ("cache-control", "no-cache"),
    ("dnt", "1"),
    ("origin", "https://shop.example.com"),
    ("referer", "https://shop.example.com/orders"),
    ("sec-fetch-dest", "empty"),
    ("sec-fetch-mode", "cors"),
    ("sec-fetch-site", "same-origin"),
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ("x-forwarded-for", "192.0.2.7"),
    ("x-forwarded-proto", "https"),
    ("x-request-id", "5c0ffee5-7a11-4bad-9d00-0123456789ab"),
];
