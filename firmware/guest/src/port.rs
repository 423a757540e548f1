//! The virtio-serial port between probe and host.

use std::fs;
use std::path::{Path, PathBuf};

use baker_contract::{DISK_PROBE_PORT, PROBE_PORT};

/// Where the kernel lists the ports, each a folder with its `name`.
const PORTS: &str = "/sys/class/virtio-ports";

/// How the probe came into the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// `/init` left it in `/run`, and told systemd where the probe listens.
    Carried,
    /// On a disk of its own, into an image that may never have heard of it.
    Disk,
}

impl Way {
    fn port(self) -> &'static str {
        match self {
            Self::Carried => PROBE_PORT,
            Self::Disk => DISK_PROBE_PORT,
        }
    }
}

/// The device node of the port for this way, when the host offers it.
pub fn find(way: Way) -> Option<PathBuf> {
    find_below(Path::new(PORTS), way)
}

fn find_below(ports: &Path, way: Way) -> Option<PathBuf> {
    fs::read_dir(ports).ok()?.flatten().find_map(|entry| {
        let name = fs::read_to_string(entry.path().join("name")).ok()?;
        (name.trim_end() == way.port()).then(|| Path::new("/dev").join(entry.file_name()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_has_the_port_of_its_name() {
        let folder = std::env::temp_dir().join(format!("baker-ports-{}", std::process::id()));
        let ports = [
            ("vport0p1", "org.other\n"),
            ("vport1p1", "baker.probe.1\n"),
            ("vport1p2", "baker.disk-probe.1\n"),
        ];
        for (port, name) in ports {
            fs::create_dir_all(folder.join(port)).unwrap();
            fs::write(folder.join(port).join("name"), name).unwrap();
        }
        let found = [Way::Carried, Way::Disk].map(|way| find_below(&folder, way));
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(found[0], Some(PathBuf::from("/dev/vport1p1")));
        assert_eq!(found[1], Some(PathBuf::from("/dev/vport1p2")));
        assert_eq!(find_below(&folder, Way::Carried), None);
    }
}
