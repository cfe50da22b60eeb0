//! Every flipped bit and every truncation of small archives is refused: of some of them in a quick test, of all of them in a
//! long one.

use crate::support::{CPU, options, small};
use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};
use tersor::pipeline::{Options, verify};

fn refused(archive: &Path) -> bool {
    verify(archive, None, &Options { threads: 1, ..options(&CPU) }).is_err()
}

/// Damages the small archives, with every `step`-th flip and truncation, another one in each file.
fn damage(step: usize) {
    let started = Instant::now();
    let dir = crate::support::memory_folder();
    let made = small::archives(dir.path());
    let [flips, cuts, bytes] = [0; 3].map(AtomicUsize::new);
    crate::support::each(&made, |i, (name, archive)| {
        assert!(!refused(archive), "{name} is whole");
        for file in small::files(archive) {
            let good = fs::read(&file).unwrap();
            assert!(good.len() <= 4096, "{name} has {} bytes", good.len());
            bytes.fetch_add(good.len(), Ordering::Relaxed);
            let damaged = |bytes: &[u8], count: &AtomicUsize| {
                fs::write(&file, bytes).unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                refused(archive)
            };
            for bit in (i % step..good.len() * 8).step_by(step) {
                let mut bytes = good.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert!(damaged(&bytes, &flips), "{name}: {file:?}, bit {bit}");
            }
            for len in (i % step..good.len()).step_by(step) {
                assert!(damaged(&good[..len], &cuts), "{name}: {file:?}, cut to {len} bytes");
            }
            assert!(damaged(&[&good[..], &[0]].concat(), &cuts), "{name}: {file:?}, a byte more");
            assert!(damaged(&[&good[..], &good].concat(), &cuts), "{name}: {file:?}, twice");
            fs::write(&file, &good).unwrap();
        }
        assert!(!refused(archive), "{name} is whole again");
    });
    assert!(made.len() >= 50, "{} archives", made.len());
    println!(
        "{} archives of {} bytes in all: {} flips, {} other lengths, every one refused, {:.0} s",
        made.len(),
        bytes.into_inner(),
        flips.into_inner(),
        cuts.into_inner(),
        started.elapsed().as_secs_f64()
    );
}

#[test]
fn damage_is_refused() {
    damage(37);
}

#[test]
#[ignore = "minutes"]
fn every_damage_is_refused() {
    damage(1);
}
