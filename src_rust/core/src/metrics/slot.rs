//! One logged quantity.

use serde::{Deserialize, Serialize};

/// How the values of an epoch become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reduction {
    /// Σ value·weight / Σ weight.
    Mean,
    /// Σ value.
    Sum,
    /// The smallest value.
    Min,
    /// The largest value.
    Max,
}

/// What a process adds to a reduction over several: for a mean (Σ value·weight, Σ weight), otherwise (result, number of
/// values). An amount of 0 means that there was no value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parts {
    /// The weighted sum, the sum, or the extreme value.
    pub value: f64,
    /// The weights' sum, or how many values there were.
    pub amount: f64,
}

impl Reduction {
    /// The parts of several processes as one; `None` if none of them had a value.
    pub fn merge(self, parts: impl IntoIterator<Item = Parts>) -> Option<f64> {
        let (mut total, mut amount) = (Compensated::default(), Compensated::default());
        let mut extreme: Option<f64> = None;
        let mut any = false;
        for part in parts.into_iter().filter(|part| part.amount != 0.0 || part.value != 0.0) {
            any = true;
            total.add(part.value);
            amount.add(part.amount);
            extreme = Some(extreme.map_or(part.value, |so_far| self.extreme(so_far, part.value)));
        }
        match self {
            _ if !any => None,
            Self::Mean => Some(total.get() / amount.get()),
            Self::Sum => Some(total.get()),
            Self::Min | Self::Max => extreme,
        }
    }

    fn extreme(self, a: f64, b: f64) -> f64 {
        if a.is_nan() || b.is_nan() {
            f64::NAN
        } else if self == Self::Min {
            a.min(b)
        } else {
            a.max(b)
        }
    }
}

/// A sum with its compensation (A. Neumaier, 1974): the error stays that of a single addition, however many there are.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
struct Compensated {
    #[serde(with = "bits")]
    sum: f64,
    #[serde(with = "bits")]
    lost: f64,
}

impl Compensated {
    #[inline]
    fn add(&mut self, x: f64) {
        let sum = self.sum + x;
        let lost = if self.sum.abs() >= x.abs() { (self.sum - sum) + x } else { (x - sum) + self.sum };
        // infinity minus itself would turn the whole into NaN
        if lost.is_finite() {
            self.lost += lost;
        }
        self.sum = sum;
    }

    #[inline]
    fn get(self) -> f64 {
        self.sum + self.lost
    }
}

/// The running state of one logged quantity.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Slot {
    reduction: Reduction,
    /// Values are those of `f64`; otherwise what comes in and what goes out is rounded to `f32`.
    double: bool,
    total: Compensated,
    weight: Compensated,
    /// A mean's weighted sum as tensor arithmetic gives it, rounded after every operation.
    #[serde(with = "bits")]
    chain: f64,
    #[serde(with = "bits")]
    last: f64,
    #[serde(with = "bits")]
    last_weight: f64,
    updates: u64,
}

impl Slot {
    /// An empty slot.
    pub fn new(reduction: Reduction, double: bool) -> Self {
        Self {
            reduction,
            double,
            total: Compensated::default(),
            weight: Compensated::default(),
            chain: 0.0,
            last: 0.0,
            last_weight: 0.0,
            updates: 0,
        }
    }

    /// A value as this slot's type would hold it.
    #[inline]
    pub fn round(&self, x: f64) -> f64 {
        if self.double { x } else { f64::from(x as f32) }
    }

    /// Takes a value in; `weight` is the number of samples that it stands for.
    #[inline]
    pub fn update(&mut self, value: f64, weight: f64) {
        let value = self.round(value);
        self.last = value;
        self.last_weight = weight;
        let first = self.updates == 0;
        self.updates += 1;
        match self.reduction {
            Reduction::Mean => {
                // f32 operands: products and sums of f64 rounded once are what f32 arithmetic gives
                self.chain = self.round(self.chain + self.round(value * weight));
                self.total.add(value * weight);
                self.weight.add(weight);
            }
            Reduction::Sum => self.total.add(value),
            Reduction::Min | Reduction::Max => {
                self.total.sum = if first { value } else { self.reduction.extreme(self.total.sum, value) };
            }
        }
    }

    /// The value last taken in; `None` before the first.
    pub fn last(&self) -> Option<f64> {
        (self.updates > 0).then_some(self.last)
    }

    /// All values reduced to one; `None` before the first.
    pub fn compute(&self) -> Option<f64> {
        (self.updates > 0).then(|| match self.reduction {
            Reduction::Mean => self.round(self.chain / self.round(self.weight.get())),
            _ => self.round(self.total.get()),
        })
    }

    /// What this process adds to the reduction of all its values over several processes.
    pub fn parts(&self) -> Parts {
        let amount = if self.reduction == Reduction::Mean { self.weight.get() } else { self.updates as f64 };
        Parts { value: self.total.get(), amount }
    }

    /// The same of the last value alone.
    pub fn last_parts(&self) -> Parts {
        match (self.updates, self.reduction) {
            (0, _) => Parts { value: 0.0, amount: 0.0 },
            (_, Reduction::Mean) => Parts { value: self.last * self.last_weight, amount: self.last_weight },
            _ => Parts { value: self.last, amount: 1.0 },
        }
    }

    /// How it reduces.
    pub fn reduction(&self) -> Reduction {
        self.reduction
    }

    /// How many values were taken in.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// Are its values of double precision?
    pub fn double(&self) -> bool {
        self.double
    }

    /// Forgets all values.
    pub fn reset(&mut self) {
        *self = Self::new(self.reduction, self.double);
    }
}

/// Floats as their bits: text formats lose NaN, infinity and sometimes the last digit.
mod bits {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(x: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(x.to_bits())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        u64::deserialize(deserializer).map(f64::from_bits)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Reduction; 4] = [Reduction::Mean, Reduction::Sum, Reduction::Min, Reduction::Max];

    fn fed(reduction: Reduction, double: bool, values: &[(f64, f64)]) -> Slot {
        let mut slot = Slot::new(reduction, double);
        for &(value, weight) in values {
            slot.update(value, weight);
        }
        slot
    }

    #[test]
    fn a_mean_is_weighted_and_the_rest_is_not() {
        let values = [(0.0, 2.0), (1.0, 2.0), (2.0, 1.0)];
        assert_eq!(ALL.map(|r| fed(r, true, &values).compute().unwrap()), [0.8, 3.0, 0.0, 2.0]);
        assert_eq!(fed(Reduction::Max, true, &values).last(), Some(2.0));
    }

    #[test]
    fn nothing_comes_of_nothing() {
        let mut slot = Slot::new(Reduction::Mean, false);
        assert_eq!((slot.compute(), slot.last()), (None, None));
        assert_eq!(Reduction::Mean.merge([slot.parts(), slot.last_parts()]), None);
        slot.update(1.0, 1.0);
        slot.reset();
        assert_eq!(slot, Slot::new(Reduction::Mean, false));
    }

    #[test]
    fn nan_and_infinity_are_not_lost() {
        for reduction in ALL {
            let slot = fed(reduction, false, &[(1.0, 1.0), (f64::NAN, 1.0), (2.0, 1.0)]);
            assert!(slot.compute().unwrap().is_nan());
        }
        let slot = fed(Reduction::Sum, true, &[(1.0, 1.0), (f64::INFINITY, 1.0), (2.0, 1.0)]);
        assert_eq!(slot.compute(), Some(f64::INFINITY));
    }

    #[test]
    fn small_values_survive_large_ones() {
        let slot = fed(Reduction::Sum, true, &[(1e100, 1.0), (1.0, 1.0), (-1e100, 1.0)]);
        assert_eq!(slot.compute(), Some(1.0));
    }

    proptest! {
        #[test]
        fn results_are_those_of_exact_arithmetic(
            values in prop::collection::vec((-1_000_000i64..1_000_000, 1i64..512), 1..200)
        ) {
            // eighths: exact in f32 and in sums of integers
            let exact: i64 = values.iter().map(|&(v, w)| v * w).sum();
            let weights: i64 = values.iter().map(|&(_, w)| w).sum();
            let wide: Vec<_> = values.iter().map(|&(v, w)| (v as f64 / 8.0, w as f64)).collect();
            let mean = exact as f64 / 8.0 / weights as f64;
            prop_assert_eq!(fed(Reduction::Mean, true, &wide).compute().unwrap(), mean);
            let parts = fed(Reduction::Mean, false, &wide).parts();
            prop_assert_eq!(Reduction::Mean.merge([parts]).unwrap(), mean);
            let plain = values.iter().map(|&(v, _)| v).sum::<i64>() as f64 / 8.0;
            prop_assert_eq!(fed(Reduction::Sum, true, &wide).compute().unwrap(), plain);
        }

        #[test]
        fn a_mean_of_one_process_is_that_of_tensor_arithmetic(
            values in prop::collection::vec((-1e6f32..1e6, 1u32..512), 1..200)
        ) {
            let (mut sum, mut weights) = (0f32, 0f32);
            for &(value, weight) in &values {
                sum += value * weight as f32;
                weights += weight as f32;
            }
            let wide: Vec<_> = values.iter().map(|&(v, w)| (f64::from(v), f64::from(w))).collect();
            prop_assert_eq!(fed(Reduction::Mean, false, &wide).compute().unwrap() as f32, sum / weights);
        }

        #[test]
        fn several_processes_give_what_one_gives(
            values in prop::collection::vec((-1_000_000i64..1_000_000, 1i64..512, 0usize..4), 1..100)
        ) {
            for reduction in ALL {
                let all: Vec<_> = values.iter().map(|&(v, w, _)| (v as f64 / 8.0, w as f64)).collect();
                let ranks = (0..4).map(|rank| {
                    let own: Vec<_> = values.iter().filter(|v| v.2 == rank)
                        .map(|&(v, w, _)| (v as f64 / 8.0, w as f64)).collect();
                    fed(reduction, true, &own).parts()
                });
                prop_assert_eq!(reduction.merge(ranks), fed(reduction, true, &all).compute());
            }
        }
    }
}
