//! Waiting for messages, and for the end of processes.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use super::message::MESSAGE;
use super::region::system;
use crate::{Error, Result};

/// What came.
#[derive(Debug, Default)]
pub struct News {
    /// The number of the channel, and what came through it: one message or several.
    pub messages: Vec<(usize, Vec<u8>)>,
    /// Numbers of the channels whose other end is closed.
    pub closed: Vec<usize>,
    /// Numbers of the watched files that are ready: a process that ended.
    pub ended: Vec<usize>,
}

/// Waits until something comes, a signal arrives, or the time is over; the latter two give no news.
///
/// For the first `awake` of the time the thread looks again and again, and sleeps only then: whoever sends to one that is
/// asleep has to wake a processor up, which costs him up to 70 µs where machines are virtual.
///
/// # Errors
/// The system refuses, or half a message came.
pub fn wait(channels: &[BorrowedFd<'_>], watched: &[BorrowedFd<'_>], time: Duration, awake: Duration) -> Result<News> {
    let mut polled: Vec<PollFd<'_>> =
        channels.iter().chain(watched).map(|file| PollFd::from_borrowed_fd(*file, PollFlags::IN)).collect();
    let begun = Instant::now();
    loop {
        let asleep = begun.elapsed() >= awake;
        let time = if asleep { time } else { Duration::ZERO };
        let limit = Timespec { tv_sec: time.as_secs().cast_signed(), tv_nsec: i64::from(time.subsec_nanos()) };
        match rustix::event::poll(&mut polled, Some(&limit)) {
            Ok(ready) if ready > 0 || asleep => break,
            Ok(_) => std::thread::yield_now(),
            Err(Errno::INTR) => return Ok(News::default()),
            Err(error) => return Err(system("wait for workers", error)),
        }
    }
    let ready: Vec<bool> = polled.iter().map(|file| !file.revents().is_empty()).collect();
    let mut news = News::default();
    for (number, file) in channels.iter().enumerate() {
        if ready[number] {
            match read(file)? {
                Some(bytes) => news.messages.push((number, bytes)),
                None => news.closed.push(number),
            }
        }
    }
    news.ended = (0..watched.len()).filter(|number| ready[channels.len() + number]).collect();
    Ok(news)
}

/// Whole messages from a channel that has something; None if its other end is closed.
fn read(file: &BorrowedFd<'_>) -> Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; 16 * MESSAGE];
    let mut filled = 0;
    loop {
        match rustix::io::read(file, &mut bytes[filled..]) {
            Ok(0) if filled == 0 => return Ok(None),
            Ok(0) => return Err(Error::Transport { why: "a worker ended in the middle of a message".into() }),
            Ok(more) => filled += more,
            Err(Errno::INTR) => continue,
            Err(Errno::CONNRESET) => return Ok(None),
            Err(error) => return Err(system("hear from a worker", error)),
        }
        if filled % MESSAGE == 0 {
            bytes.truncate(filled);
            return Ok(Some(bytes));
        }
    }
}

/// Sends a message.
///
/// # Errors
/// The other end is closed.
pub fn send(file: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(file, bytes) {
            Ok(done) => bytes = bytes.get(done..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(error) => return Err(system("send a batch", error)),
        }
    }
    Ok(())
}

/// Ends this process when its parent ends, at once and whatever it does.
///
/// # Errors
/// The system refuses.
pub fn die_with_parent() -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(|error| system("follow the parent", error))
}
