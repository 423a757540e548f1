//! A squarified treemap: areas in proportion to numbers, as close to squares as can be.
//!
//! After Bruls, Huizing and van Wijk, "Squarified Treemaps" (2000).

/// A rectangle, in the units of the frame that was asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rectangle {
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
}

/// One rectangle for each of `weights`, which are positive and sorted, largest first; together
/// they fill the frame.
pub(super) fn squarify(weights: &[f64], frame: Rectangle) -> Vec<Rectangle> {
    let total: f64 = weights.iter().sum();
    let scale = frame.width * frame.height / total.max(f64::MIN_POSITIVE);
    let areas: Vec<f64> = weights.iter().map(|weight| weight * scale).collect();
    let mut placed = Vec::with_capacity(areas.len());
    let (mut free, mut rest) = (frame, areas.as_slice());
    while !rest.is_empty() {
        let side = free.width.min(free.height);
        let mut count = 1;
        while count < rest.len() && worst(&rest[..=count], side) <= worst(&rest[..count], side) {
            count += 1;
        }
        let (row, behind) = rest.split_at(count);
        free = place(row, free, &mut placed);
        rest = behind;
    }
    placed
}

/// The worst ratio of sides when `row` is laid along a side of this length.
fn worst(row: &[f64], side: f64) -> f64 {
    let sum: f64 = row.iter().sum();
    let largest = row.iter().copied().fold(0.0, f64::max);
    let smallest = row.iter().copied().fold(f64::MAX, f64::min);
    let (side, sum) = (side * side, sum * sum);
    (side * largest / sum).max(sum / (side * smallest))
}

/// Lays `row` along the shorter side of `free`; gives what stays free.
fn place(row: &[f64], free: Rectangle, placed: &mut Vec<Rectangle>) -> Rectangle {
    let sum: f64 = row.iter().sum();
    let wide = free.width >= free.height;
    let side = if wide { free.height } else { free.width };
    let depth = if side > 0.0 { sum / side } else { 0.0 };
    let mut at = 0.0;
    for area in row {
        let length = if depth > 0.0 { area / depth } else { 0.0 };
        let (x, y) = if wide { (0.0, at) } else { (at, 0.0) };
        let (width, height) = if wide {
            (depth, length)
        } else {
            (length, depth)
        };
        placed.push(Rectangle {
            x: free.x + x,
            y: free.y + y,
            width,
            height,
        });
        at += length;
    }
    if wide {
        Rectangle {
            x: free.x + depth,
            width: (free.width - depth).max(0.0),
            ..free
        }
    } else {
        Rectangle {
            y: free.y + depth,
            height: (free.height - depth).max(0.0),
            ..free
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Rectangle = Rectangle {
        x: 0.0,
        y: 0.0,
        width: 600.0,
        height: 400.0,
    };

    #[test]
    fn areas_are_in_proportion_and_fill_the_frame_without_overlap() {
        let weights = [6.0, 6.0, 4.0, 3.0, 2.0, 2.0, 1.0];
        let placed = squarify(&weights, FRAME);
        for (weight, at) in weights.iter().zip(&placed) {
            let area = at.width * at.height;
            assert!((area - weight * 10_000.0).abs() < 1e-6, "{at:?}");
            assert!(at.x >= 0.0 && at.x + at.width <= 600.0 + 1e-6, "{at:?}");
            assert!(at.y >= 0.0 && at.y + at.height <= 400.0 + 1e-6, "{at:?}");
        }
        for (index, one) in placed.iter().enumerate() {
            for other in &placed[..index] {
                let apart = one.x + one.width <= other.x + 1e-6
                    || other.x + other.width <= one.x + 1e-6
                    || one.y + one.height <= other.y + 1e-6
                    || other.y + other.height <= one.y + 1e-6;
                assert!(apart, "{one:?} {other:?}");
            }
        }
        // The figure of the paper: the first two stand above each other at the left.
        let first = placed[0];
        assert!((first.width - 300.0).abs() < 1e-6 && (first.height - 200.0).abs() < 1e-6);
    }

    #[test]
    fn nothing_needs_no_place() {
        assert!(squarify(&[], FRAME).is_empty());
    }
}
