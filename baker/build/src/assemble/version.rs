//! The order of Debian versions (deb-version(7)).

use std::cmp::Ordering;

/// Compares two versions as dpkg does: epoch, then upstream version, then revision.
#[must_use]
pub fn compare(left: &str, right: &str) -> Ordering {
    let (left_epoch, left_upstream, left_revision) = split(left);
    let (right_epoch, right_upstream, right_revision) = split(right);
    compare_part(left_epoch, right_epoch)
        .then_with(|| compare_part(left_upstream, right_upstream))
        .then_with(|| compare_part(left_revision, right_revision))
}

/// Epoch (empty means 0), upstream version, revision (empty means none, which equals `0`).
fn split(version: &str) -> (&[u8], &[u8], &[u8]) {
    let (epoch, rest) = version.split_once(':').unwrap_or(("", version));
    let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
    (epoch.as_bytes(), upstream.as_bytes(), revision.as_bytes())
}

/// Runs of non-digits and runs of digits in turn; digits by value, other bytes by [`weight`].
fn compare_part(mut left: &[u8], mut right: &[u8]) -> Ordering {
    while !left.is_empty() || !right.is_empty() {
        loop {
            let (a, b) = (weight(left.first()), weight(right.first()));
            if a == 0 && b == 0 {
                break;
            }
            if a != b {
                return a.cmp(&b);
            }
            // Equal and not both at an end or a digit: both hold a byte.
            (left, right) = (&left[1..], &right[1..]);
        }
        let (a, left_rest) = digits(left);
        let (b, right_rest) = digits(right);
        let order = a.len().cmp(&b.len()).then_with(|| a.cmp(b));
        if order.is_ne() {
            return order;
        }
        (left, right) = (left_rest, right_rest);
    }
    Ordering::Equal
}

/// `~` sorts before the end, the end (and a digit) before letters, letters before all else.
fn weight(byte: Option<&u8>) -> i32 {
    match byte {
        None | Some(b'0'..=b'9') => 0,
        Some(b'~') => -1,
        Some(byte) if byte.is_ascii_alphabetic() => i32::from(*byte),
        Some(byte) => i32::from(*byte) + 256,
    }
}

/// The leading digits without leading zeros, and what follows them.
fn digits(part: &[u8]) -> (&[u8], &[u8]) {
    let end = part
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(part.len());
    let (run, rest) = part.split_at(end);
    let start = run
        .iter()
        .position(|&byte| byte != b'0')
        .unwrap_or(run.len());
    (&run[start..], rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_dpkgs() {
        // Each row was checked with `dpkg --compare-versions`.
        let rows = [
            ("1.0", "1.0", Ordering::Equal),
            ("1.0-0", "1.0", Ordering::Equal),
            ("0:1.0", "1.0", Ordering::Equal),
            ("1.0~rc1", "1.0", Ordering::Less),
            ("1.0~~", "1.0~", Ordering::Less),
            ("1:0.1", "2.0", Ordering::Greater),
            ("2.10", "2.9", Ordering::Greater),
            ("1.0a", "1.0", Ordering::Greater),
            ("1.0+b1", "1.0a", Ordering::Greater),
            ("1.001", "1.1", Ordering::Equal),
            ("257.13-1~deb13u1", "257.13-1", Ordering::Less),
            ("1-2-3", "1-2-10", Ordering::Less),
        ];
        for (left, right, order) in rows {
            assert_eq!(compare(left, right), order, "{left} {right}");
            assert_eq!(compare(right, left), order.reverse(), "{right} {left}");
        }
    }
}
