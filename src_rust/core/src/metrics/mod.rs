//! The accumulators behind `self.log`.
//!
//! **What.** A [`Store`] holds one [`Slot`] per logged quantity. The binding finds a slot's number once, when a quantity is
//! logged for the first time; afterwards an update is an index into a vector.
//!
//! **Invariants.**
//! - A slot computes in the type of its values. For single precision every operation rounds to `f32`, in the order in which
//!   the values came, so that results are those of the same arithmetic on 0-dim tensors, to the last bit.
//! - Only a mean knows weights; sum, minimum and maximum take each value once.
//! - Nothing computed is kept: [`Slot::compute`] may be called at any time and changes nothing.
//!
//! **Cost.** An update is a handful of floating-point operations; nothing is allocated after a slot was made.

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

/// The running state of one logged quantity.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Slot {
    reduction: Reduction,
    /// Compute in `f64`; otherwise every result is rounded to `f32`.
    double: bool,
    #[serde(with = "bits")]
    accumulated: f64,
    weight: f64,
    #[serde(with = "bits")]
    last: f64,
    updates: u64,
}

impl Slot {
    /// An empty slot.
    pub fn new(reduction: Reduction, double: bool) -> Self {
        Self { reduction, double, accumulated: 0.0, weight: 0.0, last: 0.0, updates: 0 }
    }

    #[inline]
    fn round(&self, x: f64) -> f64 {
        if self.double { x } else { f64::from(x as f32) }
    }

    /// Takes a value in; `weight` is the number of samples that it stands for.
    #[inline]
    pub fn update(&mut self, value: f64, weight: f64) {
        let value = self.round(value);
        self.last = value;
        let first = self.updates == 0;
        self.updates += 1;
        // both operands are f32 values, so the product is exact in f64 and rounding once is what f32 arithmetic does;
        // the same holds for the sum
        self.accumulated = match self.reduction {
            Reduction::Mean => {
                self.weight += weight;
                self.round(self.accumulated + self.round(value * weight))
            }
            Reduction::Sum => self.round(self.accumulated + value),
            Reduction::Min if first => value,
            Reduction::Max if first => value,
            Reduction::Min => nan_or(self.accumulated, value, f64::min),
            Reduction::Max => nan_or(self.accumulated, value, f64::max),
        };
    }

    /// The value last taken in; `None` before the first.
    pub fn last(&self) -> Option<f64> {
        (self.updates > 0).then_some(self.last)
    }

    /// All values reduced to one; `None` before the first.
    pub fn compute(&self) -> Option<f64> {
        (self.updates > 0).then(|| match self.reduction {
            Reduction::Mean => self.round(self.accumulated / self.round(self.weight)),
            _ => self.accumulated,
        })
    }

    /// How many values were taken in.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// Does it compute in double precision?
    pub fn double(&self) -> bool {
        self.double
    }

    /// Forgets all values.
    pub fn reset(&mut self) {
        *self = Self::new(self.reduction, self.double);
    }
}

/// A NaN among the values stays visible, as in tensor arithmetic.
fn nan_or(a: f64, b: f64, pick: impl Fn(f64, f64) -> f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { pick(a, b) }
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

/// All slots of a stage, by number.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Store {
    slots: Vec<Slot>,
}

impl Store {
    /// Makes a slot; its number is good for the store's whole life.
    pub fn add(&mut self, reduction: Reduction, double: bool) -> usize {
        self.slots.push(Slot::new(reduction, double));
        self.slots.len() - 1
    }

    /// The slot of this number.
    #[inline]
    pub fn get(&self, number: usize) -> Option<&Slot> {
        self.slots.get(number)
    }

    /// The slot of this number, to be changed.
    #[inline]
    pub fn get_mut(&mut self, number: usize) -> Option<&mut Slot> {
        self.slots.get_mut(number)
    }

    /// How many slots there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Is there no slot at all?
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// All slots forget their values.
    pub fn reset(&mut self) {
        self.slots.iter_mut().for_each(Slot::reset);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
        assert_eq!(fed(Reduction::Mean, true, &values).compute(), Some(0.8));
        assert_eq!(fed(Reduction::Sum, true, &values).compute(), Some(3.0));
        assert_eq!(fed(Reduction::Min, true, &values).compute(), Some(0.0));
        assert_eq!(fed(Reduction::Max, true, &values).compute(), Some(2.0));
        assert_eq!(fed(Reduction::Max, true, &values).last(), Some(2.0));
    }

    #[test]
    fn nothing_comes_of_nothing() {
        let mut slot = Slot::new(Reduction::Mean, false);
        assert_eq!((slot.compute(), slot.last()), (None, None));
        slot.update(1.0, 1.0);
        slot.reset();
        assert_eq!(slot, Slot::new(Reduction::Mean, false));
    }

    #[test]
    fn nan_is_not_lost() {
        for reduction in [Reduction::Mean, Reduction::Sum, Reduction::Min, Reduction::Max] {
            let slot = fed(reduction, false, &[(1.0, 1.0), (f64::NAN, 1.0), (2.0, 1.0)]);
            assert!(slot.compute().unwrap().is_nan());
        }
    }

    proptest! {
        #[test]
        fn single_precision_is_that_of_f32_arithmetic(
            values in prop::collection::vec((-1e6f32..1e6, 1u32..512), 1..200)
        ) {
            let (mut sum, mut weights) = (0f32, 0f32);
            for &(value, weight) in &values {
                sum += value * weight as f32;
                weights += weight as f32;
            }
            let wide: Vec<_> = values.iter().map(|&(v, w)| (f64::from(v), f64::from(w))).collect();
            let slot = fed(Reduction::Mean, false, &wide);
            prop_assert_eq!(slot.compute().unwrap() as f32, sum / weights);
            let plain = values.iter().fold(0f32, |a, &(v, _)| a + v);
            prop_assert_eq!(fed(Reduction::Sum, false, &wide).compute().unwrap() as f32, plain);
        }

        #[test]
        fn a_saved_store_goes_on_the_same(values in prop::collection::vec(-1e3f64..1e3, 2..50), cut in 1..49usize) {
            let cut = cut.min(values.len());
            let mut straight = Store::default();
            let number = straight.add(Reduction::Mean, true);
            let mut broken = straight.clone();
            for (i, &value) in values.iter().enumerate() {
                straight.get_mut(number).unwrap().update(value, 1.0);
                if i == cut {
                    broken = serde_json::from_str(&serde_json::to_string(&broken).unwrap()).unwrap();
                }
                broken.get_mut(number).unwrap().update(value, 1.0);
            }
            prop_assert_eq!(straight, broken);
        }
    }
}
