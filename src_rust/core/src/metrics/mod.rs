//! The accumulators behind `self.log`.
//!
//! **What.** A [`Store`] holds one [`Slot`] per logged quantity. The binding finds a slot's number once, when a quantity is
//! logged for the first time; afterwards an update is an index into a vector.
//!
//! **Invariants.**
//! - Everything accumulates in `f64`: a mean as (Σ value·weight, Σ weight), and sums carry a compensation term (Neumaier's),
//!   so that a result does not depend on the number of values before it. A slot of single precision rounds what comes in
//!   and what goes out to `f32`, as a 0-dim tensor would.
//! - The mean of a single process is that of the same arithmetic on 0-dim tensors, to the last bit: it comes from a second
//!   sum that is rounded after every operation.
//! - Only a mean knows weights; sum, minimum and maximum take each value once. A NaN stays a NaN.
//! - [`Slot::parts`] of several processes can be merged in any order: the result is that of one process which saw all values.
//! - Nothing computed is kept: [`Slot::compute`] may be called at any time and changes nothing.
//!
//! **Cost.** An update is a handful of floating-point operations; nothing is allocated after a slot was made.

mod slot;
mod store;

pub use slot::{Parts, Reduction, Slot};
pub use store::Store;
