//! Requests of one HTTP/2 connection that have come and are not answered yet.
//!
//! Who has a task of his own wakes the connection's task when he has answered, which then writes this one
//! answer at once: a system call each. Most answers are there at once, so here the connection's own task
//! asks for them, some at a time, and writes them together.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hyper::rt::Executor;
use tokio::time::Instant;

/// So many are asked before what they answered is written: the first one waits for the last.
const BATCH: usize = 16;

/// If they take longer than this, the others need not wait: they get tasks of their own, on any core.
const PATIENCE: Duration = Duration::from_micros(200);

/// More than a connection may have open. A client that gives up its requests as fast as it asks can have more
/// here: those get tasks of their own, so that nobody waits behind them.
const CROWD: usize = 128;

/// The connection's task has it. With it end those who wait in it.
#[derive(Default)]
pub(super) struct Streams(Arc<Waiting>);

/// What hyper has of it, and each stream too: so it must not keep those that wait.
#[derive(Clone)]
pub(super) struct Entrance(Weak<Waiting>);

type Waiting = Mutex<VecDeque<Stream>>;
type Stream = Pin<Box<dyn Future<Output = ()> + Send>>;

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Entrance {
    fn execute(&self, stream: F) {
        let stream = Box::pin(stream);
        if let Some(waiting) = self.0.upgrade() {
            let mut waiting = lock(&waiting);
            if waiting.len() < CROWD {
                return waiting.push_back(stream);
            }
        }
        spawn(stream);
    }
}

impl Streams {
    pub(super) fn entrance(&self) -> Entrance {
        Entrance(Arc::downgrade(&self.0))
    }

    /// Asks those that have come, each once: who cannot answer yet gets a task. True if there was any: then the
    /// connection has something to write.
    pub(super) fn answer(&self) -> bool {
        let Some(first) = self.next() else { return false };
        let began = Instant::now();
        ask(first);
        for _ in 1..BATCH {
            if began.elapsed() > PATIENCE {
                self.part();
            }
            let Some(stream) = self.next() else { return true };
            ask(stream);
        }
        true
    }

    /// Whether there are more to be asked.
    pub(super) fn are_waiting(&self) -> bool {
        !lock(&self.0).is_empty()
    }

    /// Gives all of them tasks of their own.
    pub(super) fn part(&self) {
        let streams = std::mem::take(&mut *lock(&self.0));
        streams.into_iter().for_each(spawn);
    }

    fn next(&self) -> Option<Stream> {
        lock(&self.0).pop_front()
    }
}

fn lock(waiting: &Waiting) -> MutexGuard<'_, VecDeque<Stream>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
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
            streams.entrance().execute(async move {
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
        streams.entrance().execute(async move { done.send(told.await.unwrap()).unwrap() });
        let runtime = runtime();
        let _inside = runtime.enter();
        assert!(streams.answer() && !streams.are_waiting());
        assert!(is_done.try_recv().is_err());
        tell.send(7).unwrap();
        assert_eq!(is_done.recv_timeout(Duration::from_secs(5)), Ok(7));
    }

    #[test]
    fn a_stream_does_not_keep_the_connection_it_waits_in() {
        let (streams, held) = (Streams::default(), Arc::new(()));
        let (entrance, holds) = (streams.entrance(), Arc::clone(&held));
        // As hyper's do, it holds what it was given to.
        let hypers = entrance.clone();
        entrance.execute(async move {
            pending::<()>().await;
            drop((hypers, holds));
        });
        assert_eq!(Arc::strong_count(&held), 2);
        drop(streams);
        assert_eq!(Arc::strong_count(&held), 1);
    }

    #[test]
    fn who_is_left_when_the_connection_ends_gets_a_task() {
        let (streams, by) = streams([Duration::ZERO; 3]);
        let entrance = streams.entrance();
        let runtime = runtime();
        let _inside = runtime.enter();
        streams.part();
        drop(streams);
        entrance.execute(ready(())); // and who comes later does no harm
        for _ in 0..3 {
            by.recv_timeout(Duration::from_secs(5)).unwrap();
        }
    }

    #[test]
    fn who_comes_in_a_crowd_does_not_wait_in_line() {
        let runtime = runtime();
        let _inside = runtime.enter();
        let (streams, by) = streams([Duration::ZERO; CROWD + 2]);
        for _ in 0..2 {
            let thread = by.recv_timeout(Duration::from_secs(5)).unwrap();
            assert_ne!(thread, thread::current().id());
        }
        assert!(streams.are_waiting() && by.try_recv().is_err());
    }

    #[test]
    fn who_panics_ends_alone() {
        let (streams, by) = streams([]);
        drop(by);
        let (done, is_done) = oneshot::channel::<()>();
        streams.entrance().execute(async move {
            let _dropped_with_it = done;
            poll_fn(|_| -> Poll<()> { panic!("on purpose") }).await;
        });
        streams.entrance().execute(ready(()));
        let runtime = runtime();
        let _inside = runtime.enter();
        assert!(streams.answer() && !streams.are_waiting());
        assert!(runtime.block_on(is_done).is_err());
        streams.entrance().execute(pending());
        assert!(streams.answer());
    }
}
