//! Refusals in the service's own form: problem details (RFC 9457), with the header that tells clients what
//! to do left as it is.
//!
//! ```text
//! cargo run --example custom_refusal --features axum -- https://id.example.com/realms/shop
//! ```

use std::error::Error;

use axum::Router;
use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::http::{Response, StatusCode};
use axum::routing::get;
use serde_json::json;
use tokio::net::TcpListener;
use vidimus::builder::Realm;
use vidimus::check::Refusal;
use vidimus::edge::refusal::{Refuse as _, Standard};
use vidimus::{CheckLayer, GateBuilder};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let issuer = arguments.next().ok_or("usage: custom_refusal ISSUER [ADDRESS]")?;
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:3000".into());

    let realm = Realm::new(&issuer).audience(["orders-api"]);
    let gate = GateBuilder::new().realm(realm).build()?;
    gate.ready().await;
    let layer = CheckLayer::new(&gate, "default")?.refusal(problem);
    let app = Router::new().route("/orders", get(|| async { "orders\n" })).route_layer(layer);

    let listener = TcpListener::bind(address).await?;
    println!("listening at http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}

fn problem(refusal: &Refusal) -> Response<Body> {
    // Status, WWW-Authenticate and Retry-After stay; the body is ours.
    let mut response: Response<Body> = Standard.refuse(refusal);
    let answer = refusal.denial.answer();
    let title = match response.status() {
        StatusCode::FORBIDDEN => "You may not do that",
        StatusCode::SERVICE_UNAVAILABLE => "Try again in a moment",
        _ => "Please log in",
    };
    let body = json!({
        "type": format!("https://orders.example.com/problems/{}", answer.label),
        "title": title,
        "status": answer.status,
        "detail": answer.description,
    });
    *response.body_mut() = Body::from(body.to_string());
    let kind = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
