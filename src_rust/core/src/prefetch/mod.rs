//! Rows of data in memory, gathered into batches.
//!
//! **What.** A [`Plan`] says where the rows of a dataset lie: regions of memory, subsets and concatenations of them, several
//! fields side by side. [`Plan::locate`] turns the indices of a batch into addresses. A batch is then copied either at once
//! by the caller ([`Plan::gather`]), or by the threads of an [`Engine`], ahead of its consumer, into buffers of a [`Pool`].
//!
//! | module | |
//! | --- | --- |
//! | [`plan`] | from indices to addresses; checks every index |
//! | [`copy`] | rows of equal width from anywhere to one place |
//! | [`pool`] | buffers that come back when they are dropped |
//! | [`ring`] | batches in memory that worker processes share (Linux) |
//! | [`engine`] | threads that work on chunks of batches; who waits for a batch helps |
//!
//! **Invariants.**
//! - No address is computed from an index outside its region; [`Plan::locate`] then gives nothing, and nothing is copied.
//! - A plan keeps what it points into alive, a job its plan and its buffers: whoever ends first, no thread reads or writes
//!   memory that is gone.
//! - A buffer is handed out to one owner; it goes back to its pool when that owner drops it, and never before. The pool
//!   keeps no more bytes than it was told; what a consumer holds is the consumer's.
//! - Threads start with the first job, end when nothing was to do for a while, and hold no lock while they copy.
//! - In a process that was forked off, nothing of the parent's threads is waited for and no lock of theirs is taken:
//!   buffers are freed, jobs are done by whoever waits for them.
//!
//! **Cost.** Locating costs a few nanoseconds per row and field; copying is memory-bound. A job costs some microseconds
//! above its copies. Nothing is allocated per row.

pub mod copy;
pub mod engine;
pub mod plan;
pub mod pool;
#[cfg(target_os = "linux")]
pub mod ring;

pub use engine::{Engine, Ticket};
pub use plan::{Indices, Located, Node, Plan, Region};
pub use pool::{Buffer, Pool};
