//! What a test's own thread logs.

use std::io;
use std::sync::{Arc, Mutex};

/// What is logged on this thread from now on, at every level, as long as the guard lives.
pub(crate) fn log() -> (impl Fn() -> String, impl Sized) {
    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);
    impl io::Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let memory = Memory::default();
    let writer = memory.clone();
    let logs = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let read = move || String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
    // Were it the only one, a thread without it that comes to a line first would silence it for all.
    let second = tracing::Dispatch::new(tracing_subscriber::registry());
    (read, (second, tracing::subscriber::set_default(logs)))
}
