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

#[cfg(test)]
mod tests {
    use super::*;

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
