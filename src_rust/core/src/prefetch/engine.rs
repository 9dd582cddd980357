//! Threads that gather batches ahead of their consumer.
//!
//! A batch is a job of chunks. Threads take chunks from the oldest job that has any left; whoever waits for a job takes
//! chunks of it too, so that a batch is ready as early as all cores can make it.

use std::collections::VecDeque;
use std::sync::atomic::{
    AtomicBool, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::copy::copy_rows;
use super::plan::{Located, Plan};
use super::pool::{Buffer, Pool};
use crate::Result;

/// Bytes of a chunk, about: long enough that taking it costs nothing, short enough to be divided.
const CHUNK: usize = 256 * 1024;
/// How long to wait for others' last chunk before going to sleep: waking up takes longer.
const SPIN: Duration = Duration::from_micros(20);
/// How long a thread waits for something to do before it ends.
const IDLE: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Arc<Job>>,
    threads: usize,
    idle: usize,
}

struct Shared {
    queue: Mutex<Queue>,
    work: Condvar,
}

impl Shared {
    /// The oldest job with chunks that nobody has taken.
    fn oldest(&self, queue: &mut Queue) -> Option<Arc<Job>> {
        while queue.jobs.front().is_some_and(|job| !job.has_chunks()) {
            queue.jobs.pop_front();
        }
        queue.jobs.front().map(Arc::clone)
    }

    /// Does a chunk of whatever job has one. Was there one?
    fn help_with_another(&self) -> bool {
        let found = self.oldest(&mut lock(&self.queue));
        found.is_some_and(|job| job.help())
    }
}

/// The threads. They start with the first job, and end when nothing was to do for some seconds.
pub struct Engine {
    shared: Arc<Shared>,
    most: usize,
    process: u32,
}

struct Chunk {
    field: usize,
    from: usize,
    to: usize,
}

/// One batch on its way.
struct Job {
    plan: Arc<Plan>,
    found: Located,
    into: Vec<*mut u8>,
    chunks: Vec<Chunk>,
    next: AtomicUsize,
    left: AtomicUsize,
    cancelled: AtomicBool,
    ready: Mutex<bool>,
    signal: Condvar,
    buffers: Mutex<Vec<Buffer>>,
    process: u32,
}

// SAFETY: the addresses in `found` belong to regions that `plan` keeps alive and that may be read from any thread; those in
// `into` belong to `buffers`, which leave only when every chunk is done, and each chunk is done by one thread.
unsafe impl Send for Job {}
// SAFETY: as above.
unsafe impl Sync for Job {}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Job {
    fn run(&self, chunk: &Chunk) {
        let (width, rows) = (self.plan.widths()[chunk.field], self.found.rows);
        let sources = &self.found.sources[chunk.field * rows + chunk.from..chunk.field * rows + chunk.to];
        // SAFETY: the sources come from `Plan::locate`; the field's buffer has `rows * width` bytes, of which no other
        // chunk writes rows `from..to`.
        unsafe { copy_rows(sources, self.into[chunk.field].add(chunk.from * width), width) };
    }

    /// Does the next chunk. Was there one?
    fn help(&self) -> bool {
        let at = self.next.fetch_add(1, Relaxed);
        let Some(chunk) = self.chunks.get(at) else { return false };
        if !self.cancelled.load(Relaxed) {
            self.run(chunk);
        }
        if self.left.fetch_sub(1, AcqRel) == 1 {
            *lock(&self.ready) = true;
            self.signal.notify_all();
        }
        true
    }

    fn has_chunks(&self) -> bool {
        self.next.load(Relaxed) < self.chunks.len()
    }
}

impl Engine {
    /// Threads, at most `most`; none is started yet.
    pub fn new(most: usize) -> Self {
        let shared = Arc::new(Shared { queue: Mutex::new(Queue::default()), work: Condvar::new() });
        Self { shared, most, process: std::process::id() }
    }

    /// Is this another process than the one that made it?
    pub fn foreign(&self) -> bool {
        self.process != std::process::id()
    }

    /// Begins a batch. `None` if an index is out of bounds.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn start(&self, plan: &Arc<Plan>, indices: &[i64], pool: &Arc<Pool>) -> Result<Option<Ticket>> {
        let mut found = Located::default();
        if !plan.locate(indices, &mut found) {
            return Ok(None);
        }
        let rows = indices.len();
        let buffers = plan.widths().iter().map(|width| pool.take(width * rows)).collect::<Result<Vec<_>>>()?;
        let into = buffers.iter().map(Buffer::start).collect();
        let mut chunks = Vec::new();
        for (field, &width) in plan.widths().iter().enumerate() {
            let step = CHUNK.checked_div(width).unwrap_or(rows).max(1);
            for from in (0..rows).step_by(step) {
                chunks.push(Chunk { field, from, to: (from + step).min(rows) });
            }
        }
        let job = Arc::new(Job {
            plan: Arc::clone(plan),
            found,
            into,
            next: AtomicUsize::new(0),
            left: AtomicUsize::new(chunks.len()),
            ready: Mutex::new(chunks.is_empty()),
            chunks,
            cancelled: AtomicBool::new(false),
            signal: Condvar::new(),
            buffers: Mutex::new(buffers),
            process: std::process::id(),
        });
        if !self.foreign() && !job.chunks.is_empty() {
            self.queue(&job);
        }
        Ok(Some(Ticket { job, shared: Arc::clone(&self.shared) }))
    }

    fn queue(&self, job: &Arc<Job>) {
        if self.most == 0 {
            return;
        }
        let mut queue = lock(&self.shared.queue);
        // those that their consumers have done themselves
        queue.jobs.retain(|job| job.has_chunks());
        queue.jobs.push_back(Arc::clone(job));
        let start = queue.idle == 0 && queue.threads < self.most;
        if start {
            queue.threads += 1;
        }
        let wake = queue.idle > 0;
        drop(queue);
        if wake {
            self.shared.work.notify_one();
        }
        if start {
            let shared = Arc::clone(&self.shared);
            let made = std::thread::Builder::new().name("fulmen-gather".into()).spawn(move || work(&shared));
            if made.is_err() {
                // without threads the batches are made by those who wait for them
                lock(&self.shared.queue).threads -= 1;
            }
        }
    }
}

/// What a thread does.
fn work(shared: &Shared) {
    let mut queue = lock(&shared.queue);
    loop {
        match shared.oldest(&mut queue) {
            Some(job) => {
                drop(queue);
                while job.help() {}
                drop(job);
                queue = lock(&shared.queue);
            }
            None => {
                queue.idle += 1;
                let (again, waited) = shared.work.wait_timeout(queue, IDLE).unwrap_or_else(PoisonError::into_inner);
                queue = again;
                queue.idle -= 1;
                if waited.timed_out() && queue.jobs.is_empty() {
                    queue.threads -= 1;
                    return;
                }
            }
        }
    }
}

/// The right to a batch that is on its way. Dropped before, the batch is given up.
pub struct Ticket {
    job: Arc<Job>,
    shared: Arc<Shared>,
}

impl Ticket {
    /// Rows of the batch.
    pub fn rows(&self) -> usize {
        self.job.found.rows
    }

    /// Helps with the batch, then waits for those who help too, at most about `patience`. Is it ready?
    pub fn wait(&self, patience: Duration) -> bool {
        let job = &*self.job;
        if job.process != std::process::id() {
            // whoever was at it is in another process; copying twice does no harm
            job.chunks.iter().for_each(|chunk| job.run(chunk));
            job.left.store(0, Release);
            return true;
        }
        while job.help() {}
        // others are at the rest of it, for about as long as another chunk takes
        while job.left.load(Acquire) != 0 && self.shared.help_with_another() {}
        let limit = Instant::now() + SPIN;
        while job.left.load(Acquire) != 0 && Instant::now() < limit {
            std::hint::spin_loop();
        }
        if job.left.load(Acquire) == 0 {
            return true;
        }
        let ready = lock(&job.ready);
        let (ready, _) =
            job.signal.wait_timeout_while(ready, patience, |ready| !*ready).unwrap_or_else(PoisonError::into_inner);
        *ready
    }

    /// The batch: one buffer for each field. `None` if it is not ready.
    pub fn take(self) -> Option<Vec<Buffer>> {
        if self.job.left.load(Acquire) != 0 {
            return None;
        }
        if self.job.process == std::process::id() {
            Some(std::mem::take(&mut *lock(&self.job.buffers)))
        } else {
            // nobody else is in this process to hold the lock, but it may have been held when the process was forked off
            Some(match self.job.buffers.try_lock() {
                Ok(mut buffers) => std::mem::take(&mut *buffers),
                Err(_) => return None,
            })
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.job.cancelled.store(true, Relaxed);
    }
}
