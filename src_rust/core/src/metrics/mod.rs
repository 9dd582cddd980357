//! Metric accumulators.
