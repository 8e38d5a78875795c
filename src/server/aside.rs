//! What seldom happens beside what happens for every request.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// Polls something only after it has been woken itself, and not whenever its task runs.
///
/// A connection's task runs for every request; timers and signals beside it need a look once in seconds.
pub(super) struct Aside {
    bell: Arc<Bell>,
    own: Waker,
    /// The last one that the bell has been given.
    task: Option<Waker>,
}

/// Wakes the task, and remembers that this was the cause.
struct Bell {
    rung: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Aside {
    pub(super) fn new() -> Self {
        // It rings at first: nothing has been polled yet that could ring it.
        let bell = Arc::new(Bell { rung: AtomicBool::new(true), task: Mutex::new(None) });
        Self { own: Waker::from(Arc::clone(&bell)), bell, task: None }
    }

    /// Asks `poll`, if it has been woken since it was asked last.
    pub(super) fn poll<T>(
        &mut self,
        context: &Context<'_>,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        if !self.task.as_ref().is_some_and(|task| task.will_wake(context.waker())) {
            let task = context.waker().clone();
            *self.bell.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task.clone());
            self.task = Some(task);
        }
        // Before it is asked: whatever rings meanwhile rings for the next time.
        if !self.bell.rung.load(Ordering::Relaxed) || !self.bell.rung.swap(false, Ordering::AcqRel)
        {
            return Poll::Pending;
        }
        let answer = poll(&mut Context::from_waker(&self.own));
        if answer.is_ready() {
            self.bell.rung.store(true, Ordering::Release); // there may be more
        }
        answer
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(task) = task {
            task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// A task that counts how often it is woken.
    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn is_asked_once_woken_and_not_otherwise() {
        let task = Arc::new(Task::default());
        let waker = Waker::from(Arc::clone(&task));
        let context = Context::from_waker(&waker);
        let (mut aside, mut asked, mut inner) = (Aside::new(), 0, None);
        let mut run = |aside: &mut Aside, answer: Poll<()>, context: &Context<'_>| {
            let before = asked;
            let got = aside.poll(context, |context| {
                asked += 1;
                inner = Some(context.waker().clone());
                answer
            });
            (asked - before, got, inner.clone())
        };
        let (times, got, inner) = run(&mut aside, Poll::Pending, &context);
        assert_eq!((times, got), (1, Poll::Pending), "at first");
        for _ in 0..3 {
            assert_eq!(run(&mut aside, Poll::Ready(()), &context).0, 0, "nothing has rung");
        }
        inner.unwrap().wake();
        assert_eq!(task.0.load(Ordering::Relaxed), 1, "the task is woken");
        let (times, got, inner) = run(&mut aside, Poll::Ready(()), &context);
        assert_eq!((times, got), (1, Poll::Ready(())));
        assert_eq!(
            run(&mut aside, Poll::Pending, &context).0,
            1,
            "after an answer it is asked again"
        );
        assert_eq!(run(&mut aside, Poll::Pending, &context).0, 0);

        // The task may move: the new one is woken then.
        let moved = Arc::new(Task::default());
        let waker = Waker::from(Arc::clone(&moved));
        assert_eq!(run(&mut aside, Poll::Pending, &Context::from_waker(&waker)).0, 0);
        inner.unwrap().wake();
        assert_eq!((task.0.load(Ordering::Relaxed), moved.0.load(Ordering::Relaxed)), (1, 1));
    }
}
