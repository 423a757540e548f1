//! Shell patterns over one name: `*`, `?`, `[a-z]`, `[!a-z]`, backslash.

/// True when all of `name` matches `pattern`; `*` and `?` also match a slash, as `fnmatch` does
/// without flags.
#[must_use]
pub fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut seen) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        match step(&pattern[at..], name.get(seen).copied()) {
            Step::Done if seen == name.len() => return true,
            Step::Star => {
                star = Some((at + 1, seen));
                at += 1;
                continue;
            }
            Step::One(length) => {
                at += length;
                seen += 1;
                continue;
            }
            Step::Done | Step::No => {}
        }
        // The last star takes one byte more.
        match star.as_mut() {
            Some((after, from)) if *from < name.len() => {
                *from += 1;
                (at, seen) = (*after, *from);
            }
            _ => return false,
        }
    }
}

enum Step {
    /// The pattern is used up.
    Done,
    /// A star follows.
    Star,
    /// This many bytes of pattern matched the byte.
    One(usize),
    /// The byte does not match, or there is none.
    No,
}

fn step(pattern: &[u8], byte: Option<u8>) -> Step {
    let (first, byte) = match (pattern.first(), byte) {
        (None, _) => return Step::Done,
        (Some(b'*'), _) => return Step::Star,
        (Some(_), None) => return Step::No,
        (Some(first), Some(byte)) => (*first, byte),
    };
    let (length, good) = match first {
        b'?' => (1, true),
        b'[' => match class(&pattern[1..], byte) {
            Some((length, good)) => (length + 1, good),
            None => (1, byte == b'['),
        },
        b'\\' if pattern.len() > 1 => (2, pattern[1] == byte),
        other => (1, other == byte),
    };
    if good { Step::One(length) } else { Step::No }
}

/// Bytes of the class after its `[`, and whether `byte` is in it; none when it never closes.
fn class(pattern: &[u8], byte: u8) -> Option<(usize, bool)> {
    let negated = matches!(pattern.first(), Some(b'!' | b'^'));
    let mut at = usize::from(negated);
    let (start, mut found) = (at, false);
    while *pattern.get(at)? != b']' || at == start {
        let low = pattern[at];
        if pattern.get(at + 1) == Some(&b'-') && pattern.get(at + 2).is_some_and(|b| *b != b']') {
            found |= (low..=pattern[at + 2]).contains(&byte);
            at += 3;
        } else {
            found |= low == byte;
            at += 1;
        }
    }
    Some((at + 1, found != negated))
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match_as_in_a_shell() {
        let usb = "usb:v0421p0019d0595dc00ic08in00";
        let rows: [(&str, &str, bool); 19] = [
            ("*.service", "a.service", true),
            ("*.service", "a.socket", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("getty@?", "getty@1", true),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[]]", "]", true),
            ("[", "[", true),
            ("\\*", "*", true),
            ("", "", true),
            ("*", "", true),
            ("a*", "", false),
            ("*ab", "aab", true),
            ("virtio:d00000002v*", "virtio:d00000002v00001AF4", true),
            ("virtio:d00000008v*", "virtio:d00000002v00001AF4", false),
            ("usb:v0421p0019d059[2-9]dc*ic*in*", usb, true),
            ("usb:v0421p0019d059[0-46-9]dc*ic*in*", usb, false),
            ("usb:v0421p0019d05?", usb, false),
        ];
        for (pattern, name, expected) in rows {
            assert_eq!(
                matches(pattern.as_bytes(), name.as_bytes()),
                expected,
                "{pattern} {name}"
            );
        }
    }
}
