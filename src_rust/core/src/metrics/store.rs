//! All slots of a run.

use serde::{Deserialize, Serialize};

use super::{Reduction, Slot};

/// Slots by number.
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

    proptest! {
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
