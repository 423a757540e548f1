//! The order of Debian versions, as deb-version(7) and dpkg define it.

use std::cmp::Ordering;

/// Compares two versions: epoch, then upstream version, then revision.
#[must_use]
pub fn compare(left: &str, right: &str) -> Ordering {
    if left == right {
        return Ordering::Equal;
    }
    let (left, right) = (Parts::of(left), Parts::of(right));
    left.epoch
        .cmp(&right.epoch)
        .then_with(|| compare_part(left.upstream, right.upstream))
        .then_with(|| compare_part(left.revision, right.revision))
}

struct Parts<'a> {
    epoch: u64,
    upstream: &'a [u8],
    revision: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(version: &'a str) -> Self {
        let version = version.trim();
        // A colon after something that is no number belongs to the upstream version: better an
        // order for a broken version than none.
        let (epoch, rest) = version
            .split_once(':')
            .and_then(|(epoch, rest)| Some((epoch.parse().ok()?, rest)))
            .unwrap_or((0, version));
        let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
        Self {
            epoch,
            upstream: upstream.as_bytes(),
            revision: revision.as_bytes(),
        }
    }
}

/// Alternating runs of non-digits and digits, compared in turn.
fn compare_part(mut left: &[u8], mut right: &[u8]) -> Ordering {
    while !left.is_empty() || !right.is_empty() {
        let (left_text, left_rest) = split_run(left, |byte| !byte.is_ascii_digit());
        let (right_text, right_rest) = split_run(right, |byte| !byte.is_ascii_digit());
        let (left_number, left_rest) = split_run(left_rest, |byte| byte.is_ascii_digit());
        let (right_number, right_rest) = split_run(right_rest, |byte| byte.is_ascii_digit());
        let order = compare_text(left_text, right_text)
            .then_with(|| compare_number(left_number, right_number));
        if order != Ordering::Equal {
            return order;
        }
        (left, right) = (left_rest, right_rest);
    }
    Ordering::Equal
}

fn split_run(bytes: &[u8], belongs: impl Fn(&u8) -> bool) -> (&[u8], &[u8]) {
    let end = bytes
        .iter()
        .position(|byte| !belongs(byte))
        .unwrap_or(bytes.len());
    bytes.split_at(end)
}

/// A tilde sorts before the end, the end before letters, letters before all else.
fn compare_text(left: &[u8], right: &[u8]) -> Ordering {
    let weight = |bytes: &[u8], at: usize| match bytes.get(at) {
        None => 0,
        Some(b'~') => -1,
        Some(byte) if byte.is_ascii_alphabetic() => i32::from(*byte),
        Some(byte) => i32::from(*byte) + 256,
    };
    (0..left.len().max(right.len()))
        .map(|at| weight(left, at).cmp(&weight(right, at)))
        .find(|order| *order != Ordering::Equal)
        .unwrap_or(Ordering::Equal)
}

/// Numbers of any length: without leading zeros the longer is larger.
fn compare_number(left: &[u8], right: &[u8]) -> Ordering {
    let strip = |digits: &'_ [u8]| digits.iter().take_while(|digit| **digit == b'0').count();
    let (left, right) = (&left[strip(left)..], &right[strip(right)..]);
    left.len().cmp(&right.len()).then_with(|| left.cmp(right))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::Command;

    #[test]
    fn known_orders() {
        let ascending = [
            "0~~",
            "0~~a",
            "0~",
            "0",
            "0a",
            "0+",
            "1.0~rc1-1",
            "1.0-1",
            "1.0-1+b1",
            "1.0-1.1",
            "1.0-2~bpo12+1",
            "1.0-2",
            "1.0-10",
            "1.0.1-1",
            "1.00000000000000000000002-1",
            "2.0",
            "2.0-0a",
            "1:0.1",
            "1:0.1-1",
            "2:0",
        ];
        for pair in ascending.windows(2) {
            assert_eq!(compare(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(compare(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
        }
        for (left, right) in [
            ("1.0", "1.0-0"),
            ("1.0", "0:1.0"),
            ("1.01", "1.1"),
            ("a-", "a"),
        ] {
            assert_eq!(compare(left, right), Ordering::Equal, "{left} {right}");
        }
    }

    /// True when dpkg says that `left operator right`; none when there is no dpkg.
    fn dpkg(left: &str, operator: &str, right: &str) -> Option<bool> {
        let run = Command::new("dpkg")
            .args(["--compare-versions", left, operator, right])
            .output();
        match run {
            Ok(output) => Some(output.status.success()),
            Err(_) if std::env::var_os("BAKER_STRICT").is_some() => panic!("dpkg is missing"),
            Err(_) => {
                eprintln!("SKIPPED: dpkg is not installed");
                None
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn agrees_with_dpkg(
            left in "([0-2]:)?[0-9][0-9a-b.+~]{0,5}(-[0-9a+~.]{1,3})?",
            right in "([0-2]:)?[0-9][0-9a-b.+~]{0,5}(-[0-9a+~.]{1,3})?",
        ) {
            let operator = match compare(&left, &right) {
                Ordering::Less => "lt-nl",
                Ordering::Equal => "eq",
                Ordering::Greater => "gt-nl",
            };
            if let Some(agrees) = dpkg(&left, operator, &right) {
                prop_assert!(agrees, "dpkg denies {left} {operator} {right}");
            }
        }
    }
}
