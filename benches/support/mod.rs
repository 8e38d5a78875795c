//! What the benches share.

use std::pin::Pin;

use vidimus::check::{OwnedToken, Reply};
use vidimus::gate::{NoReply, Refresh, Source};

/// An issuer that has nothing to say: no key is missing, and no token is asked about.
pub(crate) struct NoSource;

impl Source for NoSource {
    fn refresh(
        &self,
        _: &str,
        _: &str,
        _: bool,
    ) -> Pin<Box<dyn Future<Output = Refresh> + Send + '_>> {
        Box::pin(std::future::ready(Refresh::Done))
    }

    fn introspect(
        &self,
        _: &str,
        _: OwnedToken,
        _: bool,
    ) -> Pin<Box<dyn Future<Output = Result<Reply, NoReply>> + Send + '_>> {
        Box::pin(std::future::ready(Err(NoReply)))
    }
}

/// What a future that never waits gives.
pub(crate) fn ready<T>(future: impl Future<Output = T>) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => unreachable!("no key is missing here"),
    }
}
