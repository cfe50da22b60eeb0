//! What stands between a driver and the job: panics become values and say nothing, and no call goes on for ever unnoticed.

use crate::gpu::lock;
use std::{
    cell::Cell,
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook},
    sync::{Mutex, Once, mpsc},
    thread,
    time::{Duration, Instant},
};

thread_local! {
    /// How many calls deep this thread is in what may panic without a message.
    static QUIET: Cell<u32> = const { Cell::new(0) };
    /// Whether somebody waits for this thread with a deadline anyway.
    static BOUNDED: Cell<bool> = const { Cell::new(false) };
}

/// When each call of a driver that has not come back yet began.
static CALLS: Mutex<BTreeMap<u64, Instant>> = Mutex::new(BTreeMap::new());

/// Does `f`; `None` if it panics, and nothing is printed then.
pub fn quietly<T>(f: impl FnOnce() -> T) -> Option<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |info| {
            if QUIET.get() == 0 {
                usual(info);
            }
        }));
    });
    QUIET.set(QUIET.get() + 1);
    let done = catch_unwind(AssertUnwindSafe(f));
    QUIET.set(QUIET.get() - 1);
    done.ok()
}

/// Like [`quietly`], for calls of a driver: [`longest_call`] tells how long they take.
pub(super) fn driver<T>(f: impl FnOnce() -> T) -> Option<T> {
    if BOUNDED.get() {
        return quietly(f);
    }
    let began = Instant::now();
    let number = {
        let mut calls = lock(&CALLS);
        let number = calls.last_key_value().map_or(0, |(last, _)| last + 1);
        calls.insert(number, began);
        number
    };
    let done = quietly(f);
    lock(&CALLS).remove(&number);
    done
}

/// How long the oldest call of a driver has been under way. Every wait has a deadline, which the driver is told; one that is far
/// beyond it hangs, and cannot be helped but by the end of the process.
pub fn longest_call() -> Option<Duration> {
    lock(&CALLS).values().map(Instant::elapsed).max()
}

/// Does `f` on a thread of its own and waits no longer than `deadline`; `None` if it panics or is late. What is late goes on by
/// itself, and what it makes is left alone.
pub(super) fn bounded<T: Send + 'static>(
    deadline: Duration,
    f: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (send, done) = mpsc::channel();
    let work = move || {
        BOUNDED.set(true);
        if let Some(value) = quietly(f)
            && let Err(mpsc::SendError(late)) = send.send(value)
        {
            // Letting go of a device waits for it.
            std::mem::forget(late);
        }
    };
    thread::Builder::new().name("gpu".into()).spawn(work).ok()?;
    done.recv_timeout(deadline).ok()
}

#[cfg(test)]
mod tests {
    use super::{bounded, driver, longest_call, quietly};
    use std::{thread::sleep, time::Duration};

    #[test]
    fn panics_and_late_answers_are_values() {
        assert_eq!(quietly(|| 1), Some(1));
        assert_eq!(quietly(|| quietly(|| panic!("not to be seen"))), Some(None::<()>));
        assert_eq!(bounded(Duration::from_secs(10), || 2), Some(2));
        assert_eq!(bounded(Duration::from_secs(10), || panic!("not to be seen")), None::<()>);
        let late = || sleep(Duration::from_secs(2));
        assert_eq!(bounded(Duration::from_millis(5), late), None);
        driver(|| {
            sleep(Duration::from_millis(20));
            assert!(longest_call() >= Some(Duration::from_millis(20)));
        });
    }
}
