//! Requests of one HTTP/2 connection that have come and are not answered yet.
//!
//! Who has a task of his own wakes the connection's task when he has answered, which then writes this one
//! answer at once: a system call each. Most answers are there at once, so here the connection's own task
//! asks for them, some at a time, and writes them together.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hyper::rt::Executor;
use tokio::time::Instant;

/// So many are asked before what they answered is written: the first one waits for the last.
const BATCH: usize = 16;

/// If they take longer than this, the others need not wait: they get tasks of their own, on any core.
const PATIENCE: Duration = Duration::from_micros(200);

/// hyper gives it what answers each request; the connection's task shares it.
#[derive(Clone, Default)]
pub(super) struct Streams(Arc<Mutex<VecDeque<Stream>>>);

type Stream = Pin<Box<dyn Future<Output = ()> + Send>>;

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        self.waiting().push_back(Box::pin(stream));
    }
}

impl Streams {
    /// Asks those that have come, each once: who cannot answer yet gets a task. True if there was any: then the
    /// connection has something to write.
    pub(super) fn answer(&self) -> bool {
        let Some(first) = self.next() else { return false };
        let began = Instant::now();
        ask(first);
        for _ in 1..BATCH {
            if began.elapsed() > PATIENCE {
                self.waiting().drain(..).for_each(spawn);
            }
            let Some(stream) = self.next() else { return true };
            ask(stream);
        }
        true
    }

    /// Whether there are more to be asked.
    pub(super) fn are_waiting(&self) -> bool {
        !self.waiting().is_empty()
    }

    fn next(&self) -> Option<Stream> {
        self.waiting().pop_front()
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Stream>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ask(mut stream: Stream) {
    // Nobody is woken by it: if it has to wait, its task asks it again, and is.
    let mut nobody = Context::from_waker(Waker::noop());
    // One that panics ends alone, as in a task of its own.
    let asked = catch_unwind(AssertUnwindSafe(|| stream.as_mut().poll(&mut nobody)));
    if matches!(asked, Ok(Poll::Pending)) {
        spawn(stream);
    }
}

fn spawn(stream: Stream) {
    drop(tokio::spawn(stream));
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn, ready};
    use std::sync::mpsc::{Receiver, channel};
    use std::thread::{self, ThreadId};

    use tokio::runtime::{Builder, Runtime};
    use tokio::sync::oneshot;

    use super::*;

    /// One worker beside the test's own thread.
    fn runtime() -> Runtime {
        Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    }

    /// The threads on which these streams were asked, in order.
    fn streams(delays: impl IntoIterator<Item = Duration>) -> (Streams, Receiver<ThreadId>) {
        let (streams, (asked, by)) = (Streams::default(), channel());
        for delay in delays {
            let asked = asked.clone();
            streams.execute(async move {
                thread::sleep(delay);
                asked.send(thread::current().id()).unwrap();
            });
        }
        (streams, by)
    }

    #[test]
    fn who_can_answer_is_asked_here_some_at_a_time() {
        let (streams, by) = streams([Duration::ZERO; BATCH + 1]);
        let runtime = runtime();
        let _inside = runtime.enter();
        assert!(streams.answer());
        let here = by.try_iter().filter(|thread| *thread == thread::current().id()).count();
        // On a machine that stands still for a moment some get tasks of their own.
        assert!(here == BATCH || !streams.are_waiting(), "{here}");
        assert!(here <= BATCH);
        while streams.answer() {}
        assert!(!streams.are_waiting());
    }

    #[test]
    fn nobody_waits_for_one_that_takes_long() {
        let (streams, by) = streams([PATIENCE * 2, Duration::ZERO, Duration::ZERO]);
        let runtime = runtime();
        let _inside = runtime.enter();
        assert!(streams.answer() && !streams.are_waiting());
        let here = thread::current().id();
        let asked = [(); 3].map(|()| by.recv_timeout(Duration::from_secs(5)).unwrap());
        assert_eq!(asked.map(|thread| thread == here), [true, false, false]);
    }

    #[test]
    fn who_has_to_wait_gets_a_task_and_is_woken_there() {
        let (streams, (tell, told), (done, is_done)) =
            (Streams::default(), oneshot::channel::<u8>(), channel());
        streams.execute(async move { done.send(told.await.unwrap()).unwrap() });
        let runtime = runtime();
        let _inside = runtime.enter();
        assert!(streams.answer() && !streams.are_waiting());
        assert!(is_done.try_recv().is_err());
        tell.send(7).unwrap();
        assert_eq!(is_done.recv_timeout(Duration::from_secs(5)), Ok(7));
    }

    #[test]
    fn who_panics_ends_alone() {
        let (streams, by) = streams([]);
        drop(by);
        let (done, is_done) = oneshot::channel::<()>();
        streams.execute(async move {
            let _dropped_with_it = done;
            poll_fn(|_| -> Poll<()> { panic!("on purpose") }).await;
        });
        streams.execute(ready(()));
        let runtime = runtime();
        let _inside = runtime.enter();
        assert!(streams.answer() && !streams.are_waiting());
        assert!(runtime.block_on(is_done).is_err());
        streams.execute(pending());
        assert!(streams.answer());
    }
}
