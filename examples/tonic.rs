//! A gRPC service behind the layer: refusals leave as `grpc-status`, and calls find their grant.
//!
//! ```text
//! cargo run --example tonic --features tower -- https://id.example.com/realms/shop
//! ```
//!
//! The service is gRPC health, so that nothing has to be generated here; yours goes in its place.

use std::error::Error;

use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use vidimus::builder::{Policy, Realm};
use vidimus::edge::refusal::Grpc;
use vidimus::{CheckLayer, GateBuilder, Grant};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let issuer = arguments.next().ok_or("usage: tonic ISSUER [ADDRESS]")?;
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:3000".into());

    let gate = GateBuilder::new()
        .realm(Realm::new(&issuer).audience(["orders-api"]))
        .policy(Policy::new("read").scopes(["orders:read"]))
        .policy(Policy::new("admin").roles(["realm:admin"]))
        .build()?;
    gate.ready().await;
    // gRPC's path is the method's full name, and tonic routes by exactly this text.
    let layer = CheckLayer::choosing(&gate, |parts| match parts.uri.path() {
        "/grpc.health.v1.Health/Check" => "read",
        _ => "admin",
    });

    let listener = TcpListener::bind(address).await?;
    println!("listening at http://{}", listener.local_addr()?);
    Server::builder()
        .layer(layer.refusal(Grpc))
        .add_service(HealthServer::new(Orders))
        .serve_with_incoming(TcpListenerStream::new(listener))
        .await?;
    Ok(())
}

struct Orders;

#[tonic::async_trait]
impl Health for Orders {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let grant = request.extensions().get::<Grant>();
        let grant = grant.ok_or_else(|| Status::internal("no CheckLayer stands before this"))?;
        let known = grant.subject().is_some();
        let status = if known { ServingStatus::Serving } else { ServingStatus::NotServing };
        Ok(Response::new(HealthCheckResponse { status: status.into() }))
    }

    type WatchStream = tokio_stream::Empty<Result<HealthCheckResponse, Status>>;

    async fn watch(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Ok(Response::new(tokio_stream::empty()))
    }
}
