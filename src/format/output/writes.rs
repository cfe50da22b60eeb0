//! A file that any thread writes into, one at a time: threads that wrote at once would only spin on the kernel's lock of the
//! file. A thread that finds another writing leaves its bytes to it, and goes on computing.

use std::{
    fs::File,
    io,
    sync::{Mutex, MutexGuard, PoisonError, TryLockError},
};

/// Bytes that wait to be written, at most, before a thread waits with them; one piece may be larger.
const WAITING: usize = 16 << 20;

/// A file, and what waits to be written into it.
#[derive(Debug)]
pub struct Writes {
    file: File,
    /// Held by the thread that writes.
    writer: Mutex<()>,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    pieces: Vec<(u64, Vec<u8>)>,
    bytes: usize,
    /// What was to be written could not be, and would be missing.
    failed: bool,
}

impl Writes {
    /// Writes into a file.
    pub fn new(file: File) -> Self {
        Self { file, writer: Mutex::default(), waiting: Mutex::default() }
    }

    /// The file; what waits is not in it yet.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Writes bytes from a position on, now or, if a thread is writing, as soon as that has done. Bytes that others left
    /// meanwhile are written too. Which of two pieces that overlap is the later is not defined.
    ///
    /// # Errors
    ///
    /// Those of the write, perhaps of another thread's bytes; after one, every further call fails.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if let Some(writing) = self.begin() {
            self.put(offset, bytes)?;
            return self.drain(writing);
        }
        let full = {
            let mut waiting = lock(&self.waiting);
            waiting.bytes += bytes.len();
            waiting.pieces.push((offset, bytes.to_vec()));
            waiting.bytes > WAITING
        };
        match full {
            true => self.drain(lock(&self.writer)),
            // It may have finished just before the piece was there.
            false => self.begin().map_or(Ok(()), |writing| self.drain(writing)),
        }
    }

    /// Writes what waits. To be called when no thread writes any more.
    ///
    /// # Errors
    ///
    /// Those of a write, or that one had failed before.
    pub fn flush(&self) -> io::Result<()> {
        self.drain(lock(&self.writer))
    }

    /// The right to write, unless another thread has it.
    fn begin(&self) -> Option<MutexGuard<'_, ()>> {
        match self.writer.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(guard)) => Some(guard.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Writes what waits until nothing does.
    fn drain<'a>(&'a self, mut writing: MutexGuard<'a, ()>) -> io::Result<()> {
        loop {
            loop {
                let pieces = {
                    let mut waiting = lock(&self.waiting);
                    if waiting.failed {
                        return Err(io::Error::other("an earlier write failed"));
                    }
                    waiting.bytes = 0;
                    std::mem::take(&mut waiting.pieces)
                };
                if pieces.is_empty() {
                    break;
                }
                pieces.into_iter().try_for_each(|(offset, bytes)| self.put(offset, &bytes))?;
            }
            drop(writing);
            // Left by a thread that still found this one writing.
            if lock(&self.waiting).pieces.is_empty() {
                return Ok(());
            }
            match self.begin() {
                Some(again) => writing = again,
                None => return Ok(()),
            }
        }
    }

    fn put(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let put = write_all_at(&self.file, bytes, offset);
        if put.is_err() {
            lock(&self.waiting).failed = true;
        }
        put
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(unix)]
fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(windows)]
fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_write(file, bytes, offset)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            n => {
                bytes = &bytes[n..];
                offset += n as u64;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rayon::prelude::*;

    #[test]
    fn pieces_of_many_threads_all_arrive() {
        let file = tempfile::tempfile().unwrap();
        let writes = Writes::new(file.try_clone().unwrap());
        const PIECE: u64 = 3001;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(8).build().unwrap();
        pool.install(|| {
            (0..4000u64).into_par_iter().for_each(|i| {
                let bytes: Vec<u8> = (0..PIECE).map(|j| ((i * 31 + j) % 251) as u8).collect();
                writes.write_at(i * PIECE, &bytes).unwrap();
            });
        });
        // Nothing waits once every thread has come back.
        assert_eq!(lock(&writes.waiting).pieces.len(), 0);
        writes.flush().unwrap();
        let mut found = vec![0; 4000 * PIECE as usize];
        crate::format::checkpoint::read_exact_at(&file, &mut found, 0).unwrap();
        for (i, piece) in (0u64..).zip(found.chunks_exact(PIECE as usize)) {
            let expected = (0..PIECE).map(|j| ((i * 31 + j) % 251) as u8);
            assert!(piece.iter().copied().eq(expected), "piece {i}");
        }
        assert_eq!(file.metadata().unwrap().len(), 4000 * PIECE);
    }

    #[test]
    fn what_waits_is_bounded_and_left_to_who_writes() {
        let writes = Writes::new(tempfile::tempfile().unwrap());
        let writing = writes.begin().unwrap();
        writes.write_at(0, &[7; 10]).unwrap();
        assert_eq!(lock(&writes.waiting).bytes, 10);
        std::thread::scope(|scope| {
            let large = scope.spawn(|| writes.write_at(10, &vec![8; WAITING]));
            while lock(&writes.waiting).bytes <= WAITING {
                std::thread::yield_now();
            }
            assert!(!large.is_finished(), "a thread with too much to leave waits");
            writes.drain(writing).unwrap();
            large.join().unwrap().unwrap();
        });
        assert_eq!(writes.file().metadata().unwrap().len(), 10 + WAITING as u64);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn after_a_failure_nothing_passes_for_written() {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let writes = Writes::new(full);
        let error = writes.write_at(0, &[1]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(writes.flush().is_err());
        assert!(writes.write_at(0, &[]).is_err());
    }
}
