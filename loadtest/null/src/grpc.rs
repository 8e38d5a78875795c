//! tonic with the types that are generated from Envoy's API. It reads the whole question, decides nothing
//! and says OK; with `--headers`, with as many identity headers as Vidimus. It decodes every field into a
//! type of its own, which Vidimus does not: a ratio above 1 against it means that.

use std::io;

use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use envoy_types::pb::envoy::service::auth::v3::authorization_server::{
    Authorization, AuthorizationServer,
};
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::service::auth::v3::{CheckRequest, CheckResponse, OkHttpResponse};
use envoy_types::pb::google::rpc::Status;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::runtime::Builder;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tonic::transport::Server;

use crate::Outcome;
use crate::http::HEADERS;
use crate::options::Options;

pub(crate) fn serve(options: &Options) -> Outcome {
    let null = Null { headers: options.get("headers").is_some() };
    Builder::new_current_thread().enable_all().build()?.block_on(async {
        let server = Server::builder().add_service(AuthorizationServer::new(null));
        if let Some(path) = options.get("unix") {
            let listener = UnixListenerStream::new(UnixListener::bind(path)?);
            return Ok(server.serve_with_incoming(listener).await?);
        }
        let listener = TcpListener::bind(options.need("listen")?).await?;
        let prompt = |stream: io::Result<TcpStream>| {
            stream.and_then(|stream| stream.set_nodelay(true).map(|()| stream))
        };
        let incoming = TcpListenerStream::new(listener).map(prompt);
        Ok(server.serve_with_incoming(incoming).await?)
    })
}

struct Null {
    headers: bool,
}

#[tonic::async_trait]
impl Authorization for Null {
    async fn check(
        &self,
        _: tonic::Request<CheckRequest>,
    ) -> Result<tonic::Response<CheckResponse>, tonic::Status> {
        let headers = || HEADERS.iter().map(header).collect();
        let ok = || OkHttpResponse { headers: headers(), ..OkHttpResponse::default() };
        Ok(tonic::Response::new(CheckResponse {
            status: Some(Status::default()),
            http_response: self.headers.then(|| HttpResponse::OkResponse(ok())),
            ..CheckResponse::default()
        }))
    }
}

fn header((name, value): &(&str, &str)) -> HeaderValueOption {
    let header = HeaderValue {
        key: (*name).to_owned(),
        value: (*value).to_owned(),
        ..HeaderValue::default()
    };
    HeaderValueOption { header: Some(header), append_action: 2, ..HeaderValueOption::default() }
}
