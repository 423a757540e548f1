//! The timeline of a test as spans of time.

use crate::evidence::Evidence;

/// A phase with its beginning and end, in milliseconds since QEMU's start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Name of the phase, as [`crate::Mark`] has it.
    pub phase: String,
    /// When it began.
    pub start: u64,
    /// When the next one began, or the verdict came.
    pub end: u64,
}

impl Span {
    /// How long it took, milliseconds.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }
}

/// The phases of a test from the first to the verdict, each until the next one began.
#[must_use]
pub fn spans(evidence: &Evidence) -> Vec<Span> {
    let end = evidence.milliseconds;
    let mut marks: Vec<_> = evidence.timeline.iter().collect();
    marks.sort_by_key(|mark| mark.milliseconds);
    let next = marks.iter().skip(1).map(|mark| mark.milliseconds);
    let ends: Vec<u64> = next.chain([end]).collect();
    marks
        .iter()
        .zip(ends)
        .map(|(mark, next)| Span {
            phase: mark.phase.clone(),
            start: mark.milliseconds.min(end),
            end: next.min(end),
        })
        .collect()
}

/// Milliseconds as people read them: `0.4 s`, `12.3 s`, `2 min 05 s`.
#[must_use]
pub fn seconds(milliseconds: u64) -> String {
    let tenths = milliseconds.saturating_add(50) / 100;
    if tenths < 600 {
        format!("{}.{} s", tenths / 10, tenths % 10)
    } else {
        let whole = milliseconds.saturating_add(500) / 1000;
        format!("{} min {:02} s", whole / 60, whole % 60)
    }
}

/// The marks of a scale that reaches `total` milliseconds: at most seven, at round seconds.
pub(super) fn ticks(total: u64) -> Vec<u64> {
    const STEPS: [u64; 11] = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200];
    let step = STEPS
        .into_iter()
        .map(|seconds| seconds * 1000)
        .find(|step| total / step <= 6)
        .unwrap_or(total / 6 + 1);
    (0..=6)
        .map(|number| step.saturating_mul(number))
        .take_while(|tick| *tick <= total)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_well() {
        for (milliseconds, expected) in [
            (0, "0.0 s"),
            (49, "0.0 s"),
            (50, "0.1 s"),
            (12_349, "12.3 s"),
            (59_949, "59.9 s"),
            (59_950, "1 min 00 s"),
            (125_000, "2 min 05 s"),
            (u64::MAX, "307445734561825 min 51 s"),
        ] {
            assert_eq!(seconds(milliseconds), expected);
        }
    }

    #[test]
    fn a_scale_has_few_round_marks() {
        assert_eq!(ticks(0), [0]);
        assert_eq!(ticks(900), [0]);
        assert_eq!(ticks(4_000), [0, 1000, 2000, 3000, 4000]);
        assert_eq!(ticks(19_966), [0, 5000, 10_000, 15_000]);
        assert_eq!(ticks(90_000).len(), 7);
        for total in [1, 7_000, 61_000, 3_599_999, 86_400_000, u64::MAX] {
            let marks = ticks(total);
            assert!(
                marks.len() <= 7 && marks.iter().all(|mark| *mark <= total),
                "{total}"
            );
        }
    }
}
