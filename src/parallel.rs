//! Work on all threads: the one place that calls rayon's `join`.
//!
//! rayon's parallel iterators do the same and more, but each use of one is a machine of its own to the compiler: some eighty
//! functions that split, steal and collect with just this closure. Written with them, a quarter of the library's code was theirs.
//! Here the closure is called through a pointer, and what is generic is a few lines. Jobs are coarse, a unit or some rows of a
//! matrix, so that a call more is nothing to them.
//!
//! A single job is done by the thread that calls. Jobs may call these functions themselves. A panic of a job is one of the caller,
//! once what had begun is over.

use crate::{Error, Result};
use std::{
    ops::Range,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

/// Does a job for every item.
///
/// # Errors
///
/// One of the errors of `job`. After the first no further job is begun; of those that had begun, the one for the first item counts.
pub fn try_each<I: Sync>(items: &[I], job: &(dyn Fn(&I) -> Result<()> + Sync)) -> Result<()> {
    try_numbers(items.len(), &|i| job(&items[i]))
}

/// What a job makes of every item, in their order.
pub fn map<I: Sync, T: Send>(items: &[I], job: &(dyn Fn(&I) -> T + Sync)) -> Vec<T> {
    let made = empty(items.len());
    numbers(0..items.len(), &|i| put(&made[i], job(&items[i])));
    taken(made)
}

/// As [`map`], of jobs that may fail.
///
/// # Errors
///
/// As [`try_each`].
pub fn try_map<I: Sync, T: Send>(
    items: &[I],
    job: &(dyn Fn(&I) -> Result<T> + Sync),
) -> Result<Vec<T>> {
    let made = empty(items.len());
    try_numbers(items.len(), &|i| {
        put(&made[i], job(&items[i])?);
        Ok(())
    })?;
    Ok(taken(made))
}

/// Does a job for every chunk of `size` elements, its number first; the last chunk may be shorter. A size of 0 counts as 1.
pub fn chunks<T: Send>(data: &mut [T], size: usize, job: &(dyn Fn(usize, &mut [T]) + Sync)) {
    spans(data, size, 1, &|first, span| {
        for (chunk, number) in span.chunks_mut(size.max(1)).zip(first..) {
            job(number, chunk);
        }
    });
}

/// Does a job for spans of chunks, each with the number of its first: for what is worth making once for several of them, or for
/// chunks so small that a thread should have at least `least`.
pub fn spans<T: Send>(
    data: &mut [T],
    size: usize,
    least: usize,
    job: &(dyn Fn(usize, &mut [T]) + Sync),
) {
    let size = size.max(1);
    let count = data.len().div_ceil(size);
    match rayon::current_num_threads() {
        _ if count == 0 => {}
        1 => job(0, data),
        threads => split(data, 0, size, least.max(count / (SPANS * threads)), job),
    }
}

/// Spans for each thread, so that the others can help one that is late.
const SPANS: usize = 8;

/// Halves spans, the first chunk of this one being number `first`, while the halves have at least `least` chunks.
fn split<T: Send>(
    data: &mut [T],
    first: usize,
    size: usize,
    least: usize,
    job: &(dyn Fn(usize, &mut [T]) + Sync),
) {
    let half = data.len().div_ceil(size) / 2;
    if half < least.max(1) {
        return job(first, data);
    }
    let (low, high) = data.split_at_mut(half * size);
    both(&mut || split(low, first, size, least, job), &mut || {
        split(high, first + half, size, least, job);
    });
}

/// Does a job for every number.
fn numbers(range: Range<usize>, job: &(dyn Fn(usize) + Sync)) {
    match range.len() {
        0 => {}
        1 => job(range.start),
        len => {
            let middle = range.start + len / 2;
            both(&mut || numbers(range.start..middle, job), &mut || {
                numbers(middle..range.end, job)
            });
        }
    }
}

/// Does a job for every number up to `count` until one fails.
fn try_numbers(count: usize, job: &(dyn Fn(usize) -> Result<()> + Sync)) -> Result<()> {
    let (failed, first) = (AtomicBool::new(false), Mutex::new(None::<(usize, Error)>));
    numbers(0..count, &|i| {
        if failed.load(Relaxed) {
            return;
        }
        if let Err(e) = job(i) {
            failed.store(true, Relaxed);
            let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
            if first.as_ref().is_none_or(|(before, _)| i < *before) {
                *first = Some((i, e));
            }
        }
    });
    match first.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some((_, e)) => Err(e),
        None => Ok(()),
    }
}

/// rayon's `join`, compiled once.
fn both(a: &mut (dyn FnMut() + Send), b: &mut (dyn FnMut() + Send)) {
    rayon::join(a, b);
}

/// Room for what is made of each item.
type Made<T> = Vec<Mutex<Option<T>>>;

fn empty<T>(count: usize) -> Made<T> {
    (0..count).map(|_| Mutex::new(None)).collect()
}

fn put<T>(place: &Mutex<Option<T>>, made: T) {
    *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(made);
}

fn taken<T>(made: Made<T>) -> Vec<T> {
    let take = |place: Mutex<Option<T>>| place.into_inner().unwrap_or_else(PoisonError::into_inner);
    made.into_iter().map(|place| take(place).expect("every job is done")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        sync::{Barrier, atomic::AtomicUsize},
        time::Duration,
    };

    /// Runs on as many threads as a machine may have.
    fn on_threads(work: impl Fn() + Send + Sync) {
        for threads in [1, 2, 5] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(&work);
        }
        // And from a thread that is none of a pool's.
        work();
    }

    fn usage(text: String) -> Error {
        Error::Usage(text)
    }

    #[test]
    fn every_item_has_its_turn_once() {
        on_threads(|| {
            for count in [0, 1, 2, 3, 7, 64, 1000] {
                let items: Vec<AtomicUsize> = (0..count).map(AtomicUsize::new).collect();
                let add = |item: &AtomicUsize| {
                    item.fetch_add(1, Relaxed);
                    Ok(())
                };
                try_each(&items, &add).unwrap();
                let found: Vec<usize> = items.into_iter().map(AtomicUsize::into_inner).collect();
                assert_eq!(found, (1..=count).collect::<Vec<_>>());
            }
        });
    }

    #[test]
    fn results_are_in_order() {
        on_threads(|| {
            let items: Vec<u32> = (0..999).collect();
            let texts: Vec<String> = items.iter().map(u32::to_string).collect();
            assert_eq!(map(&items, &|i| i.to_string()), texts);
            assert_eq!(try_map(&items, &|i| Ok(i.to_string())).unwrap(), texts);
            assert!(map(&[0; 0], &|i| *i).is_empty());
        });
    }

    #[test]
    fn an_error_ends_the_work() {
        on_threads(|| {
            let (items, begun) = ((0..10_000).collect::<Vec<usize>>(), Mutex::new(Vec::new()));
            let fail = |i: &usize| {
                begun.lock().unwrap().push(*i);
                Err(usage(i.to_string()))
            };
            let error = try_each(&items, &fail).unwrap_err().to_string();
            let begun = begun.into_inner().unwrap();
            assert!(begun.len() <= rayon::current_num_threads(), "{begun:?} were begun");
            assert_eq!(error, begun.iter().min().unwrap().to_string());
            let one = |i: &usize| if *i == 777 { Err(usage(i.to_string())) } else { Ok(*i) };
            assert_eq!(try_map(&items, &one).unwrap_err().to_string(), "777");
        });
    }

    #[test]
    fn of_two_errors_the_first_items_counts() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        for late in [0, 1] {
            let both = Barrier::new(2);
            let fail = |i: &usize| {
                both.wait();
                if *i == late {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(usage(i.to_string()))
            };
            let error = pool.install(|| try_each(&[0, 1], &fail)).unwrap_err();
            assert_eq!(error.to_string(), "0", "{late} is late");
        }
    }

    #[test]
    fn chunks_cover_slices_of_every_length() {
        on_threads(|| {
            for len in (0..70).chain([1000, 1001]) {
                for size in [0, 1, 2, 3, 7, 64, 2000] {
                    let mut found = vec![(usize::MAX, 0); len];
                    chunks(&mut found, size, &|number, chunk| {
                        let len = chunk.len();
                        chunk.iter_mut().for_each(|at| *at = (number, len));
                    });
                    let of = |i| {
                        let (number, size) = (i / size.max(1), size.max(1));
                        (number, size.min(len - number * size))
                    };
                    assert_eq!(found, (0..len).map(of).collect::<Vec<_>>(), "{len} by {size}");
                }
            }
        });
    }

    #[test]
    fn spans_are_neither_too_short_nor_too_many() {
        on_threads(|| {
            for (len, size, least) in
                [(1000, 3, 1), (1000, 3, 50), (40, 7, 1), (40, 7, 9), (0, 1, 1)]
            {
                let seen = Mutex::new(Vec::new());
                spans(&mut vec![0; len], size, least, &|first, span| {
                    seen.lock().unwrap().push((first, span.len()));
                });
                let mut seen = seen.into_inner().unwrap();
                seen.sort_unstable();
                let (mut at, many) = (0, seen.len() > 1);
                for (first, span) in &seen {
                    assert_eq!(first * size, at);
                    assert!(!many || span.div_ceil(size) >= least);
                    at += span;
                }
                assert_eq!(at, len);
                assert!(seen.len() <= SPANS * rayon::current_num_threads());
            }
        });
    }

    #[test]
    fn a_single_job_stays_on_its_thread() {
        let here = std::thread::current().id();
        chunks(&mut [0; 8], 8, &|_, _| assert_eq!(std::thread::current().id(), here));
        map(&[0], &|_| assert_eq!(std::thread::current().id(), here));
    }

    #[test]
    fn panics_come_through() {
        on_threads(|| {
            let items: Vec<usize> = (0..100).collect();
            let odd = |i: &usize| {
                if *i == 61 {
                    panic!("at {i}")
                }
            };
            let caught = std::panic::catch_unwind(|| drop(map(&items, &odd))).unwrap_err();
            assert_eq!(caught.downcast_ref::<String>().unwrap(), "at 61");
        });
    }
}
