//! Every error of the core, with its message beside it.

use std::path::PathBuf;

use thiserror::Error as ThisError;

/// What the core's functions return.
pub type Result<T> = std::result::Result<T, Error>;

/// The one error type of the crate. The binding maps each kind to a Python exception (`enter.rs`).
#[derive(Debug, Clone, PartialEq, ThisError)]
pub enum Error {
    /// An argument whose value cannot be: the caller's mistake in a single number or text.
    #[error("`{argument}` must be {expected}, got {received}. {cure}")]
    Value {
        /// The argument's public name.
        argument: String,
        /// What would have been right.
        expected: String,
        /// What came.
        received: String,
        /// What the user can do about it.
        cure: String,
    },
    /// Settings that are each fine, but do not fit together or do not fit the data.
    #[error("`{argument}` must be {expected}, got {received}. {cure}")]
    Configuration {
        /// The argument's public name.
        argument: String,
        /// What would have been right.
        expected: String,
        /// What came.
        received: String,
        /// What the user can do about it.
        cure: String,
    },
    /// The system has no memory left for us.
    #[error("no memory for {bytes} bytes")]
    Memory {
        /// How many bytes were asked for.
        bytes: usize,
    },
    /// The operating system refuses something.
    #[error("cannot {what}: {why}")]
    System {
        /// What was to be done.
        what: &'static str,
        /// What the system says.
        why: String,
    },
    /// What came from another process cannot be.
    #[error("the memory shared with a worker process is damaged: {why}")]
    Transport {
        /// What is wrong with it.
        why: String,
    },
    /// A saved state that cannot be restored.
    #[error("cannot restore {what}: {why}")]
    State {
        /// What was to be restored.
        what: &'static str,
        /// Why it is not possible.
        why: String,
    },
    /// The operating system refused.
    #[error("cannot {action} {path}: {reason}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// The system's number for the reason, where it has one.
        code: Option<i32>,
        /// The reason in words.
        reason: String,
    },
    /// A file that is not what it should be.
    #[error("{why}")]
    Damaged {
        /// What is wrong with it.
        why: String,
    },
}

impl Error {
    /// An [`Error::Io`].
    pub fn io(path: impl Into<PathBuf>, action: &'static str, error: &std::io::Error) -> Self {
        Self::Io { action, path: path.into(), code: error.raw_os_error(), reason: error.to_string() }
    }

    /// A [`Error::Value`].
    pub fn value(
        argument: impl Into<String>,
        expected: impl Into<String>,
        received: impl Into<String>,
        cure: impl Into<String>,
    ) -> Self {
        Self::Value {
            argument: argument.into(),
            expected: expected.into(),
            received: received.into(),
            cure: cure.into(),
        }
    }

    /// A [`Error::Configuration`].
    pub fn configuration(
        argument: impl Into<String>,
        expected: impl Into<String>,
        received: impl Into<String>,
        cure: impl Into<String>,
    ) -> Self {
        Self::Configuration {
            argument: argument.into(),
            expected: expected.into(),
            received: received.into(),
            cure: cure.into(),
        }
    }
}
