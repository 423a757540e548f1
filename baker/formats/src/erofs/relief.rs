//! Which parts of an input are hard to compress.
//!
//! How much input fills a cluster has to be guessed, and every wrong guess costs a whole attempt.
//! The ratio of what came before is a poor guess, for a program is code, then tables, then text.
//! A quick codec sees where the hard parts are in a tenth of the time, and how much better a slow
//! one does is nearly the same everywhere.

/// Pieces of an input and what a quick codec makes of each by itself, found when first asked for.
pub struct Relief<Q> {
    /// Tells how many bytes it makes of those between two places.
    quick: Q,
    /// Bytes of input.
    length: usize,
    /// Bytes of a piece; the last may be shorter.
    piece: usize,
    costs: Vec<Option<usize>>,
}

impl<Q: FnMut(usize, usize) -> usize> Relief<Q> {
    /// Of an input of `length` bytes, in pieces of `piece` bytes.
    pub fn new(length: usize, piece: usize, quick: Q) -> Self {
        Self {
            quick,
            length,
            piece,
            costs: vec![None; length.div_ceil(piece)],
        }
    }

    /// Bytes of input.
    pub const fn length(&self) -> usize {
        self.length
    }

    /// What the bytes from `from` to `to` cost.
    pub fn between(&mut self, from: usize, to: usize) -> usize {
        let (mut at, mut sum) = (from, 0);
        while at < to {
            let (start, end, cost) = self.piece_at(at);
            let until = end.min(to);
            sum += cost * (until - at) / (end - start);
            at = until;
        }
        sum
    }

    /// The place so far behind `from` that the bytes between cost `cost`, or the end.
    pub fn ahead(&mut self, from: usize, mut cost: usize) -> usize {
        let mut at = from;
        while at < self.length {
            let (start, end, whole) = self.piece_at(at);
            let left = whole * (end - at) / (end - start);
            if left > cost {
                return at + cost * (end - start) / whole;
            }
            cost -= left;
            at = end;
        }
        self.length
    }

    /// The place so far before `to` that the bytes between cost `cost`, or the start.
    pub fn back(&mut self, to: usize, mut cost: usize) -> usize {
        let mut at = to;
        while at > 0 {
            let (start, end, whole) = self.piece_at(at - 1);
            let left = whole * (at - start) / (end - start);
            if left > cost {
                return at - cost * (end - start) / whole;
            }
            cost -= left;
            at = start;
        }
        0
    }

    /// The bounds of the piece that holds byte `at`, and its cost.
    fn piece_at(&mut self, at: usize) -> (usize, usize, usize) {
        let index = at / self.piece;
        let start = index * self.piece;
        let end = (start + self.piece).min(self.length);
        let quick = &mut self.quick;
        let cost = *self.costs[index].get_or_insert_with(|| quick(start, end).max(1));
        (start, end, cost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_costs_belong_together_and_no_piece_is_asked_for_in_vain() {
        let mut asked = Vec::new();
        let quick = |from: usize, to: usize| {
            asked.push(from);
            if from < 200 {
                to - from
            } else {
                (to - from) / 4
            }
        };
        let mut relief = Relief::new(390, 100, quick);
        assert_eq!(relief.ahead(0, 150), 150);
        assert_eq!(relief.between(0, 150), 150);
        assert_eq!(relief.between(150, 250), 50 + 12);
        assert_eq!(relief.ahead(150, 50 + 12), 248);
        assert_eq!(relief.back(250, 12 + 50), 150);
        assert_eq!(relief.back(250, 1000), 0);
        assert_eq!(relief.between(50, 50), 0);
        drop(relief);
        assert_eq!(asked, [0, 100, 200]);

        let mut flat = Relief::new(390, 100, |_, _| 0);
        assert_eq!((flat.ahead(0, 10), flat.length()), (390, 390));
        assert_eq!(flat.between(0, 390), 4);
    }
}
