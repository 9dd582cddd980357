//! How many batches a limit leaves of a loader.

use crate::{Error, Result};

/// A `limit_*_batches` argument: a number of batches or a share of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// At most so many batches.
    Batches(u64),
    /// This share of the loader, 0.0 to 1.0.
    Fraction(f64),
}

/// The number of batches that `limit` leaves of a loader with `length` batches; `None` means without end.
///
/// # Errors
/// [`Error::Configuration`] if a fraction meets a loader without length, or leaves nothing of a loader that has batches.
pub fn resolve_limit(limit: Limit, length: Option<u64>, argument: &str) -> Result<Option<u64>> {
    match (limit, length) {
        (Limit::Batches(n), None) => Ok(Some(n)),
        (Limit::Batches(n), Some(length)) => Ok(Some(n.min(length))),
        (Limit::Fraction(0.0), _) => Ok(Some(0)),
        (Limit::Fraction(1.0), length) => Ok(length),
        (Limit::Fraction(share), None) => Err(Error::configuration(
            argument,
            "a number of batches, 0.0 or 1.0 for a loader that has no length",
            share.to_string(),
            "Pass an int, or give the loader's data set a `__len__`.",
        )),
        (Limit::Fraction(share), Some(length)) => {
            // as Python's int(length * share): both are exact in f64 up to 2^53
            let batches = (length as f64 * share) as u64;
            if batches == 0 && length > 0 && share > 0.0 {
                return Err(Error::configuration(
                    argument,
                    format!("large enough to leave at least one of {length} batches"),
                    share.to_string(),
                    format!("Pass {} or more, or a number of batches.", 1.0 / length as f64),
                ));
            }
            Ok(Some(batches))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_cap_and_shares_scale() {
        assert_eq!(resolve_limit(Limit::Batches(3), Some(5), "x").unwrap(), Some(3));
        assert_eq!(resolve_limit(Limit::Batches(9), Some(5), "x").unwrap(), Some(5));
        assert_eq!(resolve_limit(Limit::Batches(9), None, "x").unwrap(), Some(9));
        assert_eq!(resolve_limit(Limit::Fraction(1.0), None, "x").unwrap(), None);
        assert_eq!(resolve_limit(Limit::Fraction(0.5), Some(5), "x").unwrap(), Some(2));
        assert_eq!(resolve_limit(Limit::Fraction(0.0), Some(5), "x").unwrap(), Some(0));
        assert_eq!(resolve_limit(Limit::Fraction(0.5), Some(0), "x").unwrap(), Some(0));
    }

    #[test]
    fn impossible_shares_name_the_argument() {
        for length in [None, Some(1)] {
            let text = resolve_limit(Limit::Fraction(0.5), length, "limit_val_batches").unwrap_err().to_string();
            assert!(text.contains("`limit_val_batches`") && text.contains("0.5"), "{text}");
        }
    }
}
