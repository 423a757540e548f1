//! What hardware the machine has, by the names that Linux gives to it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Where devices are that no bus of their own leads to, as those of a device tree.
const PLATFORM: &str = "platform";

/// Names of the devices that the kernel has found, as `modalias` in `/sys` says them: those on the
/// buses that the patterns speak of. To look at all devices takes an emulated machine 0.1 s.
pub fn present<'p>(sys: &Path, patterns: impl Iterator<Item = &'p String>) -> BTreeSet<String> {
    let bus = |pattern: &'p String| pattern.split([':', '*']).next().unwrap_or_default();
    let buses: BTreeSet<&str> = patterns.map(bus).collect();
    let folder = |bus: &str| Some(sys.join("bus").join(bus)).filter(|folder| folder.exists());
    let folders: BTreeSet<_> = buses
        .into_iter()
        .filter_map(|bus| folder(bus).or_else(|| folder(PLATFORM)))
        .collect();
    let devices = |folder: PathBuf| fs::read_dir(folder.join("devices")).into_iter().flatten();
    folders
        .into_iter()
        .flat_map(devices)
        .flatten()
        .filter_map(|device| fs::read_to_string(device.path().join("modalias")).ok())
        .map(|name| name.trim_end().to_owned())
        .collect()
}

/// Whether the pattern fits the whole name: `*`, `?` and `[a-f0]` mean what they mean to a shell,
/// except that `*` ends at nothing.
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut at, mut reached) = (0, 0);
    // Where to go on when what follows the last star does not fit: only the last one needs another try.
    let mut again = None;
    loop {
        match (pattern.get(at), name.get(reached)) {
            (None, None) => return true,
            (Some(b'*'), _) => {
                at += 1;
                again = Some((at, reached));
                continue;
            }
            (Some(_), Some(&byte)) => {
                if let Some(length) = fits(&pattern[at..], byte) {
                    at += length;
                    reached += 1;
                    continue;
                }
            }
            _ => {}
        }
        match again {
            Some((after, from)) if from < name.len() => {
                (at, reached) = (after, from + 1);
                again = Some((after, from + 1));
            }
            _ => return false,
        }
    }
}

/// Length of the pattern's first sign when the byte is one that it stands for.
fn fits(pattern: &[u8], byte: u8) -> Option<usize> {
    let (&first, rest) = pattern.split_first()?;
    let end = rest.iter().position(|&sign| sign == b']');
    match (first, end) {
        (b'?', _) => Some(1),
        (b'[', Some(end)) => is_in(&rest[..end], byte).then_some(end + 2),
        _ => (first == byte).then_some(1),
    }
}

/// Whether a list of bytes and ranges has the byte.
fn is_in(mut list: &[u8], byte: u8) -> bool {
    loop {
        list = match list {
            [] => return false,
            [from, b'-', to, ..] if (from..=to).contains(&&byte) => return true,
            [_, b'-', _, rest @ ..] => rest,
            [one, ..] if *one == byte => return true,
            [_, rest @ ..] => rest,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_modules_fit_names_of_devices() {
        let disk = "virtio:d00000002v00001AF4";
        let sata = "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01";
        let usb = "usb:v0421p0019d0595dc00dsc00dp00ic08isc06ip50in00";
        let rows = [
            ("virtio:d00000002v*", disk, true),
            ("virtio:d00000008v*", disk, false),
            ("pci:v00008086d00002922sv*sd*bc*sc*i*", sata, true),
            ("pci:v*d*sv*sd*bc01sc06i01*", sata, true),
            ("pci:v*d*sv*sd*bc01sc06i02*", sata, false),
            ("pci:v*", disk, false),
            ("usb:v0421p0019d059[2-9]dc*dsc*dp*ic*isc*ip*in*", usb, true),
            (
                "usb:v0421p0019d059[0-46-9]dc*dsc*dp*ic*isc*ip*in*",
                usb,
                false,
            ),
            ("usb:v0421p0019d059[5]dc*", usb, true),
            ("usb:v0421p0019d05?5dc*", usb, true),
            ("usb:v0421p0019d05?", usb, false),
            ("", "", true),
            ("*", "", true),
            ("", "a", false),
            ("a*", "", false),
            ("a*b*", "acb", true),
            ("*ab", "aab", true),
            ("a[", "a[", true),
            ("a[b", "ab", false),
        ];
        for (pattern, name, expected) in rows {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn only_the_buses_that_patterns_name_are_looked_at() {
        let sys = std::env::temp_dir().join(format!("baker-hardware-{}", std::process::id()));
        let devices = [
            ("pci/devices/a", "pci:v1\n"),
            ("scsi/devices/b", "scsi:t-0x00\n"),
            ("platform/devices/c", "of:Ndisk\n"),
        ];
        for (device, name) in devices {
            let folder = sys.join("bus").join(device);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("modalias"), name).unwrap();
        }
        fs::create_dir_all(sys.join("bus/pci/devices/nameless")).unwrap();
        let rows = [
            (&["pci:v2*", "pci:v3*"][..], &["pci:v1"][..]),
            (&["pci*:v2*", "scsi:*"], &["pci:v1", "scsi:t-0x00"]),
            (&["of:N*"], &["of:Ndisk"]),
            (&[], &[]),
        ];
        let owned = |words: &[&str]| -> BTreeSet<String> {
            words.iter().map(|&word| word.to_owned()).collect()
        };
        let found = rows.map(|(patterns, _)| present(&sys, owned(patterns).iter()));
        fs::remove_dir_all(&sys).unwrap();
        for (found, (patterns, expected)) in found.into_iter().zip(rows) {
            assert_eq!(found, owned(expected), "{patterns:?}");
        }
        assert!(present(Path::new("/nonexistent"), owned(&["pci:*"]).iter()).is_empty());
    }
}
