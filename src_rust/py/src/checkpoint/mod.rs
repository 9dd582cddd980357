//! `fulmen._core.encode_checkpoint`, `CheckpointArchive` and `CheckpointFile`.
//!
//! Saving has two halves. `encode_checkpoint` walks the dictionary with the GIL and gives a `CheckpointArchive`: the pickle, and
//! the places of all storages. The archive is then written without the GIL, at once or later; for later, `detach` moves its
//! storages into buffers of its own.

mod archive;
mod decode;
mod encode;
mod snapshot;

pub use archive::{CheckpointArchive, clean_checkpoint_folder};
pub use decode::CheckpointFile;
pub use encode::encode_checkpoint;
pub use snapshot::CheckpointBuffers;
