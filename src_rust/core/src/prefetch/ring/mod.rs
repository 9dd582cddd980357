//! A ring of batches in memory that a worker process and its parent share.
//!
//! **What.** One [`Consumer`] and one [`Producer`], in two processes, over one anonymous file (`memfd_create`). The producer
//! writes a batch into a slot, seals it, and sends a [`Message`] of fixed size through a socket; that also wakes the
//! consumer up. The consumer maps the slot's memory and makes tensors over it, without a copy. When the last of them is
//! gone, the slot is free again.
//!
//! | module | |
//! | --- | --- |
//! | [`message`] | what goes through the socket, and the table at the end of a batch; checked when read |
//! | [`region`] | the file: mappings, the page of slot states |
//! | [`producer`] | takes free slots, lets them grow, fills them |
//! | [`consumer`] | maps slots, holds them while they are in use |
//! | [`wake`] | waits for messages and for the end of processes |
//!
//! **Invariants.**
//! - A slot's state goes `FREE` → `FULL` by the producer, `FULL` → `HELD` → `FREE` (or `RETIRED`) by the consumer, and by
//!   nobody else. Only a `FREE` slot is written to, and only while no tensor of the producer's own lies over it.
//! - A slot never moves while it is not free. The file only grows (`F_SEAL_SHRINK`), so that no mapped page can vanish.
//! - Nothing that comes from the other process is used before it was checked: slot, offset, length, every segment.
//! - Each worker has a ring of its own: one that dies in the middle of a batch leaves the others as they are.
//! - Where the consumer's process was forked while it held a slot, that slot's memory is not used again (`RETIRED`): the
//!   child may look at it for as long as it lives. The child itself never changes a state.
//! - The file has no name. When both processes are gone, however they ended, so is the memory.
//!
//! **Cost.** A few atomic operations and one message of 48 bytes each way for a batch; pages are mapped once and used again.
//! A producer that makes its tensors in the slot ([`Producer::reserve`]) copies nothing; otherwise each byte is copied once.

pub mod consumer;
pub mod message;
pub mod producer;
pub mod region;
pub mod wake;

pub use consumer::{Consumer, Held, note_fork};
pub use message::{Message, Segment};
pub use producer::{Part, Producer};
