//! The virtio-serial port between probe and host.

use std::fs;
use std::path::{Path, PathBuf};

use baker_contract::PROBE_PORT;

/// Where the kernel lists the ports, each a folder with its `name`.
const PORTS: &str = "/sys/class/virtio-ports";

/// The device node of the probe port, when the host offers one.
pub fn find() -> Option<PathBuf> {
    find_below(Path::new(PORTS))
}

fn find_below(ports: &Path) -> Option<PathBuf> {
    fs::read_dir(ports).ok()?.flatten().find_map(|entry| {
        let name = fs::read_to_string(entry.path().join("name")).ok()?;
        (name.trim_end() == PROBE_PORT).then(|| Path::new("/dev").join(entry.file_name()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_found_by_name() {
        let folder = std::env::temp_dir().join(format!("baker-ports-{}", std::process::id()));
        for (port, name) in [("vport0p1", "org.other\n"), ("vport1p1", "baker.probe.1\n")] {
            fs::create_dir_all(folder.join(port)).unwrap();
            fs::write(folder.join(port).join("name"), name).unwrap();
        }
        let found = find_below(&folder);
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(found, Some(PathBuf::from("/dev/vport1p1")));
        assert_eq!(find_below(&folder), None);
    }
}
