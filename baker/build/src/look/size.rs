//! Sizes for people.

/// A size in binary units, rounded down to one decimal.
#[must_use]
pub fn human(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let (mut shown, mut unit) = (bytes, 0);
    while shown >= 1024 * 1024 && unit + 1 < UNITS.len() {
        shown /= 1024;
        unit += 1;
    }
    let tenths = shown % 1024 * 10 / 1024;
    format!("{}.{tenths} {}", shown / 1024, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::human;

    #[test]
    fn sizes_are_rounded_down_in_their_unit() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_048_575, "1023.9 KiB"),
            (1_048_576, "1.0 MiB"),
            (5_000_000_000, "4.6 GiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(human(bytes), text);
        }
    }
}
