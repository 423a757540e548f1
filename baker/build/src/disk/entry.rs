//! Names of UKIs on the ESP, with the counter that the boot loader keeps in them.

use std::fmt;

/// The folder that systemd-boot looks through, as the ESP has it.
pub const UKI_FOLDER: &str = "EFI/Linux";

/// `STEM.efi`, `STEM+LEFT.efi` or `STEM+LEFT-DONE.efi`: the Boot Loader Specification's "boot
/// counting".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name without counter and ending: `NAME_VERSION`.
    pub stem: String,
    /// The counter; none once the version is called good.
    pub counter: Option<Counter>,
}

/// Tries of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counter {
    /// Tries left.
    pub left: u32,
    /// Tries that the loader has begun.
    pub done: u32,
}

impl Entry {
    /// The entry behind a path of the ESP; none when it is no UKI that the loader offers.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        let (folder, name) = path.rsplit_once('/')?;
        let name = name.strip_suffix(".efi")?;
        if !folder.eq_ignore_ascii_case(UKI_FOLDER) || name.is_empty() {
            return None;
        }
        let counted = name.rsplit_once('+').and_then(|(stem, counter)| {
            let (left, done) = counter.split_once('-').unwrap_or((counter, "0"));
            let (left, done) = (left.parse().ok()?, done.parse().ok()?);
            Some((stem, Counter { left, done }))
        });
        let (stem, counter) = match counted {
            Some((stem, counter)) => (stem, Some(counter)),
            None => (name, None),
        };
        let stem = stem.to_owned();
        Some(Self { stem, counter })
    }

    /// The path on the ESP.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{UKI_FOLDER}/{self}")
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.stem)?;
        match self.counter {
            None => {}
            Some(Counter { left, done: 0 }) => write!(f, "+{left}")?,
            Some(Counter { left, done }) => write!(f, "+{left}-{done}")?,
        }
        f.write_str(".efi")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_and_written() {
        let rows = [
            ("EFI/Linux/a_1.0.0.efi", Some(("a_1.0.0", None))),
            ("EFI/Linux/a_1.0.0+3.efi", Some(("a_1.0.0", Some((3, 0))))),
            ("EFI/Linux/a_1.0.0+0-3.efi", Some(("a_1.0.0", Some((0, 3))))),
            ("EFI/Linux/a+b.efi", Some(("a+b", None))),
            ("EFI/Linux/a.conf", None),
            ("EFI/BOOT/BOOTX64.EFI", None),
            ("a.efi", None),
        ];
        for (path, expected) in rows {
            let expected = expected.map(|(stem, counter): (&str, Option<(u32, u32)>)| Entry {
                stem: stem.to_owned(),
                counter: counter.map(|(left, done)| Counter { left, done }),
            });
            let entry = Entry::parse(path);
            assert_eq!(entry, expected, "{path}");
            if let Some(entry) = entry {
                assert_eq!(entry.path(), path);
            }
        }
        assert!(Entry::parse("efi/linux/a.efi").is_some());
    }
}
