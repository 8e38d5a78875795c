//! The layer without any framework: hyper, and a function.
//!
//! ```text
//! cargo run --example hyper --features tower -- https://id.example.com/realms/shop
//! ```

use std::convert::Infallible;
use std::error::Error;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tower::{Layer as _, service_fn};
use vidimus::builder::Realm;
use vidimus::{CheckLayer, GateBuilder, Grant};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let issuer = arguments.next().ok_or("usage: hyper ISSUER [ADDRESS]")?;
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:3000".into());

    let realm = Realm::new(&issuer).audience(["orders-api"]);
    let gate = GateBuilder::new().realm(realm).build()?;
    gate.ready().await;
    let service = CheckLayer::new(&gate, "default")?.layer(service_fn(orders));

    let listener = TcpListener::bind(address).await?;
    println!("listening at http://{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(async move {
            let http = auto::Builder::new(TokioExecutor::new());
            let _ = http.serve_connection(TokioIo::new(stream), service).await; // the client's affair
        });
    }
}

async fn orders(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let subject = request.extensions().get().and_then(Grant::subject).unwrap_or("nobody");
    Ok(Response::new(format!("orders of {subject}\n").into()))
}
