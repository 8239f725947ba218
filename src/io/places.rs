//! A table whose places are used again, and which grows by pieces: nothing is ever moved, so a worker with many
//! connections neither copies megabytes when one more comes, nor keeps what an outgrown table leaves behind.

/// Places in a piece.
const PIECE: usize = 256;

/// Values of type `T` by their index.
pub(super) struct Places<T> {
    pieces: Vec<Box<[T]>>,
    used: usize,
    free: Vec<usize>,
}

impl<T: Default> Places<T> {
    /// No places.
    pub(super) fn new() -> Self {
        Places { pieces: Vec::new(), used: 0, free: Vec::new() }
    }

    /// Takes a place, the one given back last if there is one. What is there is what was left there.
    pub(super) fn take(&mut self) -> usize {
        if let Some(index) = self.free.pop() {
            return index;
        }
        let index = self.used;
        self.used += 1;
        if index == self.pieces.len() * PIECE {
            self.pieces.push(std::iter::repeat_with(T::default).take(PIECE).collect());
        }
        index
    }

    /// Gives a place back, once.
    pub(super) fn give_back(&mut self, index: usize) {
        self.free.push(index);
    }

    /// What is in a place.
    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.pieces.get_mut(index / PIECE)?.get_mut(index % PIECE)
    }

    /// All places that have ever been taken.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.pieces.iter_mut().flatten().take(self.used)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_taken_place_keeps_its_value(steps in prop::collection::vec(any::<u16>(), 0..2000)) {
            let mut places = Places::new();
            let mut model: Vec<(usize, u16)> = Vec::new();
            let mut most = 0;
            for step in steps {
                if step % 4 == 0 && !model.is_empty() {
                    let (index, value) = model.swap_remove(usize::from(step) % model.len());
                    prop_assert_eq!(places.get_mut(index), Some(&mut value.clone()));
                    places.give_back(index);
                } else {
                    let index = places.take();
                    prop_assert!(model.iter().all(|(taken, _)| *taken != index));
                    *places.get_mut(index).unwrap() = step;
                    model.push((index, step));
                }
                most = most.max(model.len());
                prop_assert_eq!(places.iter_mut().count(), most, "those given back are used first");
            }
            for (index, value) in model {
                prop_assert_eq!(places.get_mut(index), Some(&mut value.clone()));
            }
        }
    }
}
