//! Looking for how much input fills a cluster.
//!
//! An attempt that fits and one that does not are a bracket around the answer. Inside of it, the
//! [`Relief`] tells where the next attempt goes: it knows how the bytes between two places compare.

use super::relief::Relief;

/// Attempts at most. Five are common; giving up on the few odd inputs sooner would waste more bytes
/// than all others together.
const ATTEMPTS: usize = 12;

/// Scales are in 1/1024.
const ONE: usize = 1024;

/// Output per cost of the relief before anything is known. A slow codec sees more than one piece.
pub const SCALE: usize = 900;

/// A prefix of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// Its bytes.
    pub length: usize,
    /// Bytes that the codec makes of them.
    pub made: usize,
}

/// What is known so far.
#[derive(Debug)]
pub struct Search {
    /// Bytes that the output may have.
    room: usize,
    /// So many fewer will do.
    slack: usize,
    /// Output per cost.
    scale: usize,
    /// The longest prefix known to fit, and the shortest known not to.
    below: Option<Point>,
    above: Option<Point>,
    attempts: usize,
    /// Whether the last attempt fitted, and how many before it did the same.
    fitted: bool,
    repeats: u32,
    /// The width that the bracket had when it was halved last, and the attempts since.
    width: usize,
    since: u32,
}

impl Search {
    /// A search for the prefix that makes `room` bytes, or up to `slack` fewer, with the scale that
    /// an earlier one came to.
    pub const fn new(room: usize, slack: usize, scale: usize) -> Self {
        Self {
            room,
            slack,
            scale,
            below: None,
            above: None,
            attempts: 0,
            fitted: false,
            repeats: 0,
            width: usize::MAX,
            since: 0,
        }
    }

    /// The length to try when nothing is known.
    pub fn first<Q: FnMut(usize, usize) -> usize>(&self, relief: &mut Relief<Q>) -> usize {
        relief.ahead(0, self.aim() * ONE / self.scale).max(1)
    }

    /// Takes what an attempt showed; gives the length to try next, none when the best so far will
    /// do or there is no better.
    pub fn next<Q: FnMut(usize, usize) -> usize>(
        &mut self,
        here: Point,
        relief: &mut Relief<Q>,
    ) -> Option<usize> {
        self.learn(here);
        if self.fitted && here.made + self.slack >= self.room || self.attempts == ATTEMPTS {
            return None;
        }
        // What does not shrink by itself is not hoped to do so with less.
        if !self.fitted && here.made >= here.length && self.below.is_none() {
            return None;
        }
        let low = self.below.map_or(0, |below| below.length) + 1;
        let high = self.above.map_or(relief.length() + 1, |above| above.length);
        if low + self.slack / 2 >= high {
            return None;
        }
        if self.below.is_some() && self.above.is_some() && self.is_slow(high - low) {
            return Some(low + (high - low) / 2);
        }
        let scale = self.scale_between(relief);
        // Misses on one side make bolder.
        let boldness = self.repeats.saturating_sub(1).min(8);
        let far = (here.made.abs_diff(self.aim()) * ONE / scale) << boldness;
        let next = if here.made < self.aim() {
            relief.ahead(here.length, far)
        } else {
            relief.back(here.length, far)
        };
        Some(next.clamp(low, high - 1))
    }

    /// The scale that a next search starts with, given how this one ended.
    pub fn scale<Q: FnMut(usize, usize) -> usize>(
        &self,
        best: Point,
        relief: &mut Relief<Q>,
    ) -> usize {
        let seen = best.made * ONE / relief.between(0, best.length).max(1);
        usize::midpoint(self.scale, seen).clamp(ONE / 16, ONE * 4)
    }

    const fn aim(&self) -> usize {
        self.room - self.slack / 2
    }

    fn learn(&mut self, here: Point) {
        let fits = here.made <= self.room;
        let again = self.attempts > 0 && fits == self.fitted;
        self.repeats = if again { self.repeats + 1 } else { 0 };
        self.fitted = fits;
        self.attempts += 1;
        // The output of a prefix may be longer than that of a longer one; the bracket stays one.
        if fits && self.below.is_none_or(|below| below.length < here.length) {
            self.below = Some(here);
        }
        if !fits && self.above.is_none_or(|above| above.length > here.length) {
            self.above = Some(here);
        }
    }

    /// Whether two attempts have not halved the bracket, as before a place where the output jumps.
    const fn is_slow(&mut self, width: usize) -> bool {
        if width <= self.width / 2 {
            self.width = width;
            self.since = 0;
            return false;
        }
        self.since += 1;
        if self.since < 2 {
            return false;
        }
        self.width = width;
        self.since = 0;
        true
    }

    /// Output per cost around the answer.
    fn scale_between<Q: FnMut(usize, usize) -> usize>(&self, relief: &mut Relief<Q>) -> usize {
        let (Some(below), Some(above)) = (self.below, self.above) else {
            return self.scale;
        };
        let cost = relief.between(below.length, above.length).max(1);
        let seen = above.made.saturating_sub(below.made) * ONE / cost;
        seen.clamp(self.scale / 4, self.scale * 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a search over `length` bytes of which a prefix makes `output` bytes; gives the attempts
    /// and the best.
    fn run(length: usize, room: usize, output: impl Fn(usize) -> usize) -> (usize, Point) {
        let mut relief = Relief::new(length, 4096, |from, to| {
            output(to).saturating_sub(output(from))
        });
        let mut search = Search::new(room, 8, SCALE);
        let mut at = search.first(&mut relief);
        let mut best = Point { length: 0, made: 0 };
        loop {
            assert!((1..=length).contains(&at), "{at}");
            let here = Point {
                length: at,
                made: output(at),
            };
            if here.made <= room && here.length > best.length {
                best = here;
            }
            match search.next(here, &mut relief) {
                Some(next) => at = next,
                None => return (search.attempts, best),
            }
        }
    }

    #[test]
    fn few_attempts_come_close_whatever_the_input_is_like() {
        type Output = fn(usize) -> usize;
        let kinds: [(&str, Output, usize); 5] = [
            ("even", |at| 40 + at * 2 / 5, 8),
            (
                "first hard, then soft",
                |at| 20 + at.min(6000) / 2 + at / 5,
                8,
            ),
            ("waves", |at| 60 + at / 3 + (at / 700) % 2 * 40, 60),
            (
                "a jump over the room",
                |at| if at < 9000 { 3000 } else { 4200 },
                1100,
            ),
            ("soft for long", |at| 30 + at / 900, 8),
        ];
        for (name, output, near) in kinds {
            let (attempts, best) = run(4 << 20, 4096, output);
            assert!(best.made + near >= 4096, "{name}: {best:?}");
            assert!(attempts <= ATTEMPTS, "{name}: {attempts} attempts");
        }
        assert_eq!(run(4 << 20, 4096, |at| 40 + at * 2 / 5).0, 3);
    }

    #[test]
    fn what_does_not_shrink_is_given_up_at_once() {
        let (attempts, best) = run(1 << 20, 65536, |at| at + 12);
        assert_eq!((attempts, best.length), (1, 0));
    }
}
