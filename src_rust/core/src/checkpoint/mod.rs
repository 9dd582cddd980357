//! Checkpoint files: torch's zip archives, written durably and read with suspicion.
//!
//! **What.** A checkpoint is a zip archive as `torch.save` writes it: a pickle (`data.pkl`) that describes the structure, and
//! one stored (never compressed) entry for the bytes of every tensor storage, each aligned to 64 bytes so that a file can be
//! mapped. This module knows the archive, the pickle's opcodes and the disk; what a tensor is, the binding knows.
//!
//! | file | holds |
//! | --- | --- |
//! | [`archive`] | writes the archive to any `Write`, in one pass, checksums computed beside it |
//! | [`crc`] | CRC-32 of large pieces by several threads |
//! | [`durable`] | a file that is complete under its name or not there; temporaries of dead processes |
//! | [`reader`] | opens an archive and believes nothing it says before having checked it |
//! | [`pickle`] | opcodes: a writer, and a parser that builds a description and never runs anything |
//!
//! **Invariants.**
//! - A final name stands for the complete old file, the complete new one, or nothing, whenever the machine stops.
//! - Memory beside the caller's own bytes stays below [`archive::EXTRA_MEMORY`] for a file of any size.
//! - No length, offset or count in a file is used before it was compared with the file's size; parsing allocates no more than
//!   a small multiple of the bytes that it read.
//!
//! **Cost.** Writing is one pass over the bytes in the writing thread; checksums come from other threads meanwhile. Reading
//! without checksums touches the directory at the end of the file, a header per entry, and the pickle.
//!
//! Sources: APPNOTE.TXT 6.3 (zip, zip64); CPython's `pickletools.py` (opcodes); `torch.serialization` (entry names).

pub mod archive;
pub mod crc;
pub mod durable;
pub mod pickle;
pub mod reader;
mod zip;
