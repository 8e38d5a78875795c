//! One connection: HTTP/1.1 or h2c, bounded in header size, header time and idle time.
//!
//! Time is kept without a timer per request: reading and judging only touch two flags, and a watch
//! looks at them every [`Bounds::tick`]. A deadline is therefore met to within one tick.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response, Version};
use hyper::body::{Body, Incoming};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use tokio::sync::watch;
use tokio::task::unconstrained;
use tokio::time::{Instant, interval_at};

use super::aside::Aside;
use super::listener::Stream;
use super::streams::Streams;

/// What a connection may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// How often connections are looked at. A request's header must arrive within two ticks.
    pub tick: Duration,
    /// So many ticks without a request end a connection.
    pub idle_ticks: u32,
    /// Connections at once; further ones wait in the kernel's queue.
    pub connections: usize,
    /// All headers of a request together but its token, in bytes; a token may have its own limit more.
    pub header_bytes: usize,
}

impl Default for Bounds {
    /// 5 s x 2 for a header (slowloris); 5 s x 15 idle, longer than nginx keeps an upstream
    /// connection (60 s), so that it is nginx who closes; 10,000 connections, each of which can make us
    /// hold as much as its headers: let whoever may connect be few.
    fn default() -> Self {
        Self {
            tick: Duration::from_secs(5),
            idle_ticks: 15,
            connections: 10_000,
            header_bytes: 48 * 1024,
        }
    }
}

/// Serves one connection until it ends, `drain` says so, or its time is over; and tells now and then how
/// many more requests came.
pub(super) async fn serve<S, F, B>(
    stream: Stream,
    bounds: Bounds,
    drain: watch::Receiver<bool>,
    service: S,
    came: impl Fn(u64) + Send + 'static,
) where
    S: Fn(Request<Incoming>) -> F + Send + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    match stream {
        Stream::Tcp(stream) => serve_io(TokioIo::new(stream), bounds, drain, service, came).await,
        Stream::Unix(stream) => serve_io(TokioIo::new(stream), bounds, drain, service, came).await,
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

async fn serve_io<IO, S, F, B>(
    io: IO,
    bounds: Bounds,
    mut drain: watch::Receiver<bool>,
    service: S,
    came: impl Fn(u64) + Send + 'static,
) where
    IO: Read + Write + Unpin + Send + 'static,
    S: Fn(Request<Incoming>) -> F + Send + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let activity = Arc::new(Activity::default());
    activity.in_header.store(true, Relaxed); // who connects has something to say
    let watched = Watched { io, activity: Arc::clone(&activity) };
    let service = {
        let activity = Arc::clone(&activity);
        service_fn(move |request: Request<Incoming>| {
            let running = Running::begin(&activity, request.version());
            let answer = service(request);
            async move {
                let answer = answer.await;
                drop(running);
                Ok::<_, Infallible>(answer)
            }
        })
    };
    let streams = Streams::default();
    let mut http = auto::Builder::new(streams.entrance());
    // Answers are short: one copy costs less than a list of pieces. And no `max_headers`: any other number
    // than hyper's own 100 makes it take two pieces of 4 KiB for each request.
    http.http1().max_buf_size(bounds.header_bytes).header_read_timeout(None).writev(false);
    http.http2()
        .max_header_list_size(u32::try_from(bounds.header_bytes).unwrap_or(u32::MAX))
        .max_concurrent_streams(128)
        // Envoy asks for all its clients over few connections, and any of them may give up at any moment, on
        // purpose and in bursts. The usual 20 resets before we have looked would end it for all.
        .max_pending_accept_reset_streams(Some(4096));
    let mut connection = pin!(http.serve_connection(watched, service));

    let mut tick = interval_at(Instant::now() + bounds.tick, bounds.tick);
    let mut drained = pin!(Some(async move { drain.wait_for(|now| *now).await.is_ok() }));
    let mut counted = Counted { activity: Arc::clone(&activity), came, told: 0 };
    let (mut aside, mut watch, mut ending) = (Aside::new(), Watch::default(), false);
    loop {
        let event = poll_fn(|context| {
            let mut ended = connection.as_mut().poll(context);
            // Only over HTTP/2 do requests wait. Once they are answered, the connection writes, and may have read
            // of others, whom nothing else wakes it for.
            if ended.is_pending() && activity.h2.load(Relaxed) && streams.answer() {
                ended = connection.as_mut().poll(context);
                if streams.are_waiting() {
                    context.waker().wake_by_ref();
                }
            }
            if let Poll::Ready(result) = ended {
                return Poll::Ready(Event::Ended(result));
            }
            let seldom = poll_fn(|context| {
                if let Some(told) = drained.as_mut().as_pin_mut()
                    && told.poll(context).is_ready()
                {
                    drained.set(None);
                    return Poll::Ready(Event::Drain);
                }
                tick.poll_tick(context).map(|_| Event::Tick)
            });
            // What the connection reads is no reason to put these off.
            let mut seldom = pin!(unconstrained(seldom));
            aside.poll(context, |context| seldom.as_mut().poll(context))
        });
        let verdict = match event.await {
            Event::Ended(result) => {
                if let Err(error) = result {
                    tracing::debug!("a connection ended early: {error}");
                }
                streams.part(); // they were asked, and are counted
                return;
            }
            Event::Drain if ending => Verdict::Fine,
            Event::Drain => Verdict::Idle,
            Event::Tick => {
                counted.hand_over();
                watch.look(&activity, bounds.idle_ticks)
            }
        };
        match verdict {
            Verdict::Fine => {}
            Verdict::Idle if !ending => {
                ending = true;
                connection.as_mut().graceful_shutdown();
            }
            // Whoever is this slow is not owed a goodbye.
            Verdict::Idle | Verdict::SlowHeader => return,
        }
    }
}

/// What a connection's task runs for.
enum Event<T> {
    Ended(T),
    Tick,
    Drain,
}

/// What requests leave for the watch to see.
#[derive(Debug, Default)]
struct Activity {
    /// Requests that came. Only the connection's own task counts them: no other core is to be heard.
    begun: AtomicU64,
    /// Of these, the ones that were answered or given up.
    ended: AtomicU64,
    in_header: AtomicBool,
    h2: AtomicBool,
}

/// Tells how many requests came, now and then: for each of them would be heard on every core.
struct Counted<F: Fn(u64)> {
    activity: Arc<Activity>,
    came: F,
    told: u64,
}

impl<F: Fn(u64)> Counted<F> {
    fn hand_over(&mut self) {
        let begun = self.activity.begun.load(Relaxed);
        (self.came)(begun - self.told);
        self.told = begun;
    }
}

impl<F: Fn(u64)> Drop for Counted<F> {
    fn drop(&mut self) {
        self.hand_over();
    }
}

/// A request being judged.
struct Running(Arc<Activity>);

impl Running {
    fn begin(activity: &Arc<Activity>, version: Version) -> Self {
        activity.in_header.store(false, Relaxed);
        activity.begun.store(activity.begun.load(Relaxed) + 1, Relaxed);
        if version == Version::HTTP_2 {
            activity.h2.store(true, Relaxed);
        }
        Self(Arc::clone(activity))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Relaxed);
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Fine,
    Idle,
    SlowHeader,
}

/// What was seen at the last tick.
#[derive(Debug, Default)]
struct Watch {
    requests: u64,
    in_header: bool,
    quiet: u32,
}

impl Watch {
    fn look(&mut self, activity: &Activity, idle_ticks: u32) -> Verdict {
        let requests = activity.begun.load(Relaxed);
        // On h2 much is read that belongs to no header: there only idleness counts.
        let in_header = activity.in_header.load(Relaxed) && !activity.h2.load(Relaxed);
        if requests != self.requests || requests != activity.ended.load(Relaxed) {
            *self = Self { requests, in_header, quiet: 0 };
            return Verdict::Fine;
        }
        self.quiet += 1;
        let slow = in_header && std::mem::replace(&mut self.in_header, in_header);
        self.in_header = in_header;
        match slow {
            true => Verdict::SlowHeader,
            false if self.quiet >= idle_ticks => Verdict::Idle,
            false => Verdict::Fine,
        }
    }
}

/// A stream that notes when something arrives.
struct Watched<IO> {
    io: IO,
    activity: Arc<Activity>,
}

impl<IO: Read + Unpin> Read for Watched<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.io).poll_read(context, buffer);
        if read.is_ready() {
            self.activity.in_header.store(true, Relaxed);
        }
        read
    }
}

impl<IO: Write + Unpin> Write for Watched<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watch_tells_slow_from_idle_from_busy() {
        let activity = Arc::new(Activity::default());
        let mut watch = Watch::default();
        activity.in_header.store(true, Relaxed);
        assert_eq!(watch.look(&activity, 3), Verdict::Fine, "a header has begun");
        drop(Running::begin(&activity, Version::HTTP_11));
        assert_eq!(watch.look(&activity, 3), Verdict::Fine, "a request came");
        assert_eq!(watch.look(&activity, 3), Verdict::Fine, "quiet, once");
        let judging = Running::begin(&activity, Version::HTTP_11);
        for _ in 0..9 {
            assert_eq!(watch.look(&activity, 3), Verdict::Fine, "it waits for keys");
        }
        drop(judging);
        assert_eq!(watch.look(&activity, 3), Verdict::Fine);
        assert_eq!(watch.look(&activity, 3), Verdict::Fine);
        assert_eq!(watch.look(&activity, 3), Verdict::Idle);

        activity.in_header.store(true, Relaxed);
        let mut watch = Watch { requests: 2, ..Watch::default() };
        assert_eq!(watch.look(&activity, 3), Verdict::Fine, "one tick to send a header");
        assert_eq!(watch.look(&activity, 3), Verdict::SlowHeader);
    }

    #[test]
    fn on_h2_control_frames_are_no_slow_header() {
        let activity = Arc::new(Activity::default());
        let mut watch = Watch::default();
        drop(Running::begin(&activity, Version::HTTP_2));
        assert_eq!(watch.look(&activity, 3), Verdict::Fine);
        for _ in 0..2 {
            activity.in_header.store(true, Relaxed); // a ping
            assert_eq!(watch.look(&activity, 3), Verdict::Fine);
        }
        assert_eq!(watch.look(&activity, 3), Verdict::Idle);
    }
}
