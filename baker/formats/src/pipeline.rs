//! Workers that read and pack, and hand their results over in order.
//!
//! Work is cut into numbered units. A worker takes the next unit only while it is less than a
//! fixed distance ahead of the unit to be written next, so memory stays bounded however slow the
//! output is.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Why the line stopped.
pub enum Stop<E> {
    /// A unit failed, or the receiver did.
    Failed(E),
    /// A worker died before it could deliver.
    Lost,
}

struct Line<R> {
    /// The next unit that nobody works on.
    next: usize,
    /// The unit that the receiver wants next.
    wanted: usize,
    /// Finished units that are not wanted yet.
    ready: BTreeMap<usize, R>,
    /// No more work is to be taken up.
    closed: bool,
    /// A worker died.
    lost: bool,
}

struct Shared<R> {
    line: Mutex<Line<R>>,
    /// Something in the line has changed.
    changed: Condvar,
}

impl<R> Shared<R> {
    fn lock(&self) -> MutexGuard<'_, Line<R>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, line: MutexGuard<'a, Line<R>>) -> MutexGuard<'a, Line<R>> {
        self.changed
            .wait(line)
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }
}

/// Tells the receiver when a worker unwinds, so that nobody waits for it.
struct Watch<'a, R>(&'a Shared<R>);

impl<R> Drop for Watch<'_, R> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.lock().lost = true;
            self.0.close();
        }
    }
}

/// Runs `work` over `0..units` on `threads` threads and `receive` over the results in order on
/// this one.
///
/// `worker` makes what a thread keeps from unit to unit (buffers); it must not influence results.
pub fn run<S, R, E>(
    units: usize,
    threads: NonZeroUsize,
    worker: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize) -> Result<R, E> + Sync,
    mut receive: impl FnMut(R) -> Result<(), E>,
) -> Result<(), Stop<E>>
where
    R: Send,
    E: Send,
{
    let distance = threads.get() + 2;
    let line = Line {
        next: 0,
        wanted: 0,
        ready: BTreeMap::new(),
        closed: false,
        lost: false,
    };
    let shared = Shared {
        line: Mutex::new(line),
        changed: Condvar::new(),
    };
    thread::scope(|scope| {
        for _ in 0..threads.get().min(units) {
            scope.spawn(|| {
                let _watch = Watch(&shared);
                let mut state = worker();
                while let Some(unit) = take(&shared, units, distance) {
                    let result = work(&mut state, unit);
                    shared.lock().ready.insert(unit, result);
                    shared.changed.notify_all();
                }
            });
        }
        let outcome = (0..units).try_for_each(|unit| {
            let result = deliver(&shared, unit).ok_or(Stop::Lost)?;
            result.and_then(&mut receive).map_err(Stop::Failed)
        });
        shared.close();
        outcome
    })
}

fn take<R>(shared: &Shared<R>, units: usize, distance: usize) -> Option<usize> {
    let mut line = shared.lock();
    while !line.closed && line.next < units && line.next >= line.wanted + distance {
        line = shared.wait(line);
    }
    if line.closed || line.next >= units {
        return None;
    }
    line.next += 1;
    Some(line.next - 1)
}

fn deliver<R>(shared: &Shared<R>, unit: usize) -> Option<R> {
    let mut line = shared.lock();
    line.wanted = unit;
    shared.changed.notify_all();
    loop {
        if let Some(result) = line.ready.remove(&unit) {
            return Some(result);
        }
        if line.lost {
            return None;
        }
        line = shared.wait(line);
    }
}
