//! A gate whose runtime ends under it: the log says so once for each realm, and only then.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what broke"
)]

#[path = "support/realm.rs"]
mod realm;
mod support;

use std::time::Duration;

use realm::{Asking, log};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use vidimus::check::Denial;
use vidimus::config::Config;
use vidimus::issuer::{IssuerSettings, Plan};
use vidimus::server::Server;
use vidimus::testing::Issuer;

const WAIT: Duration = Duration::from_secs(5);

/// How many errors stand in the log, once the runtime has ended on which `work` was done. What `work`
/// returns is kept until then. Everything happens on this thread, and so the log is all there is.
fn errors<T>(work: impl AsyncFnOnce() -> T) -> usize {
    let (log, _guard) = log();
    let home = Builder::new_current_thread().enable_all().build().unwrap();
    let kept = home.block_on(work());
    drop(home);
    drop(kept);
    let log = log();
    assert!(log.contains("the realm's signing keys"), "this is not the log: {log}");
    let errors: Vec<_> = log.lines().filter(|line| line.contains("ERROR")).collect();
    for error in &errors {
        assert!(error.contains("runtime that the gate was built on has ended"), "{error}");
        assert!(error.contains("realm=\"test\"") && error.contains("in each test"), "{error}");
    }
    errors.len()
}

async fn asking(issuer: &Issuer) -> Asking {
    let asking = Asking::start(IssuerSettings::new(issuer.issuer()));
    timeout(WAIT, asking.gate.ready()).await.unwrap();
    asking
}

#[test]
fn a_gate_that_outlives_its_runtime_is_told_and_an_end_that_was_meant_is_not() {
    let elsewhere = Runtime::new().unwrap();
    let issuer = elsewhere.block_on(Issuer::local()).unwrap();
    assert_eq!(errors(async || asking(&issuer).await), 1, "the gate is kept, its runtime is not");
    assert_eq!(errors(async || drop(asking(&issuer).await)), 0, "the gate has ended first");
    let retired = async || {
        let asking = asking(&issuer).await;
        asking.issuers.replace(Plan::prepare(Vec::new()).unwrap());
        asking
    };
    assert_eq!(errors(retired), 0, "the realm has left the configuration");
    let ended = async || {
        let asking = asking(&issuer).await;
        asking.issuers.end();
        let stranger = support::ec_key("unknown").sign(&issuer.claims()).unwrap();
        let denial = timeout(WAIT / 2, asking.denial(&stranger)).await.expect("nobody waits");
        assert_eq!(denial, Some(Denial::KeysUnavailable));
        asking
    };
    assert_eq!(errors(ended), 0, "its end was meant");
}

/// Its admin's thread holds the gate until the process ends.
#[test]
fn a_sidecar_ends_without_an_error() {
    let elsewhere = Runtime::new().unwrap();
    let issuer = elsewhere.block_on(Issuer::local()).unwrap();
    let text = format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\n\
         [[realm]]\nissuer = {:?}\naudience = [\"orders-api\"]",
        issuer.issuer()
    );
    let served = async || {
        let server = Server::start(Config::parse(&text, "test").unwrap()).await.unwrap();
        timeout(WAIT, server.gate().ready()).await.unwrap();
        assert!(server.drain().await);
    };
    assert_eq!(errors(served), 0);
}
