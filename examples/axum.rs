//! An axum service whose routes ask for different things.
//!
//! ```text
//! cargo run --example axum --features axum -- https://id.example.com/realms/shop
//! curl -H "Authorization: Bearer $TOKEN" http://127.0.0.1:3000/orders
//! ```

use std::error::Error;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{delete, get};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::time::timeout;
use vidimus::builder::{Policy, Realm};
use vidimus::check::ClaimsError;
use vidimus::{CheckLayer, GateBuilder, Grant};

/// What this service wants to know of its callers, beside what every [`Grant`] tells.
#[derive(Deserialize)]
struct Caller {
    preferred_username: Option<String>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let issuer = arguments.next().ok_or("usage: axum ISSUER [ADDRESS]")?;
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:3000".into());

    let gate = GateBuilder::new()
        .realm(Realm::new(&issuer).audience(["orders-api"]))
        .policy(Policy::new("read").scopes(["orders:read"]))
        .policy(Policy::new("admin").roles(["realm:admin"]))
        .build()?;
    // Not needed: until there are keys, requests are answered with 503.
    if timeout(Duration::from_secs(10), gate.ready()).await.is_err() {
        eprintln!("{issuer} does not answer yet");
    }

    let probed = gate.clone();
    let readyz = move || async move {
        if probed.is_ready() {
            (StatusCode::OK, "ready\n")
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "no keys yet\n")
        }
    };
    // `route_layer`, not `layer`: that one would judge unknown paths too, by the last policy that was merged.
    let read =
        Router::new().route("/orders", get(orders)).route_layer(CheckLayer::new(&gate, "read")?);
    let admin = Router::new()
        .route("/orders/{id}", delete(remove))
        .route_layer(CheckLayer::new(&gate, "admin")?);
    let app = Router::new().merge(read).merge(admin).route("/readyz", get(readyz));

    let listener = TcpListener::bind(address).await?;
    println!("listening at http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}

async fn orders(grant: Grant) -> Result<String, ClaimsError> {
    let caller = grant.claims::<Caller>()?;
    let name = caller.preferred_username.as_deref().or_else(|| grant.subject()).unwrap_or("nobody");
    Ok(format!("orders of {name}\n"))
}

async fn remove(grant: Grant) -> String {
    format!("removed by {}\n", grant.client().unwrap_or("nobody"))
}
