//! How systemd of an image that baker did not make is told to start the probe.
//!
//! Takes nothing, gives unit texts as system credentials; `Machine` hands them over as SMBIOS
//! strings of type 11. systemd's debug generator (256 or newer) makes units of them in `/run`
//! before the first transaction is built, so the image itself stays as it is. An older systemd
//! takes no notice.

use baker_contract::{PROBE_DISK_FILE, PROBE_DISK_SERIAL};
use base64ct::{Base64, Encoding as _};

/// Where the probe's disk is mounted; its unit is named after it, see `systemd.mount(5)`.
const FOLDER: &str = "/run/baker/probe";

/// Unit that mounts [`FOLDER`].
const MOUNT_UNIT: &str = "run-baker-probe.mount";

/// Unit that runs the probe.
const PROBE_UNIT: &str = "baker-probe.service";

/// Targets that pull the probe into the transaction of the boot. `default.target` covers whatever
/// the image boots to, `multi-user.target` a target named on the kernel command line. Neither is
/// part of an initrd's boot; `sysinit.target` is, which is why it is not here.
const TARGETS: [&str; 2] = ["default.target", "multi-user.target"];

/// Credentials, name and bytes, that make systemd run the probe from the disk whose serial number
/// is [`PROBE_DISK_SERIAL`].
#[must_use]
pub fn probe_credentials() -> Vec<(String, Vec<u8>)> {
    let units = [(MOUNT_UNIT, mount_unit()), (PROBE_UNIT, probe_unit())]
        .map(|(unit, text)| (format!("systemd.extra-unit.{unit}"), text));
    let wants = TARGETS.map(|target| {
        let name = format!("systemd.unit-dropin.{target}~baker-probe");
        (name, format!("[Unit]\nWants={PROBE_UNIT}\n"))
    });
    let all = units.into_iter().chain(wants);
    all.map(|(name, text)| (name, text.into_bytes())).collect()
}

/// The SMBIOS string that hands a credential to systemd.
#[must_use]
pub fn credential_string(name: &str, bytes: &[u8]) -> String {
    let value = Base64::encode_string(bytes);
    format!("io.systemd.credential.binary:{name}={value}")
}

/// Waits for nothing but its disk. No isolation and no shutdown ends it early: the probe is what
/// asks for the shutdown. The condition holds it back in an initrd that runs systemd.
fn mount_unit() -> String {
    format!(
        "[Unit]\n\
         Description=Disk of the baker smoke probe\n\
         DefaultDependencies=no\n\
         IgnoreOnIsolate=yes\n\
         ConditionPathExists=!/etc/initrd-release\n\
         \n\
         [Mount]\n\
         What=/dev/disk/by-id/virtio-{PROBE_DISK_SERIAL}\n\
         Where={FOLDER}\n\
         Type=vfat\n\
         Options=ro,nosuid,nodev,exec,fmask=0222,dmask=0222\n"
    )
}

fn probe_unit() -> String {
    format!(
        "[Unit]\n\
         Description=baker smoke probe\n\
         DefaultDependencies=no\n\
         IgnoreOnIsolate=yes\n\
         ConditionPathExists=!/etc/initrd-release\n\
         Requires={MOUNT_UNIT}\n\
         After={MOUNT_UNIT}\n\
         \n\
         [Service]\n\
         Type=simple\n\
         ExecStart={FOLDER}/{PROBE_DISK_FILE} probe\n\
         StandardInput=null\n\
         StandardOutput=null\n\
         StandardError=null\n\
         OOMScoreAdjust=-1000\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_that_is_named_is_there() {
        let credentials = probe_credentials();
        let text = |name: &str| {
            let found = credentials.iter().find(|(found, _)| found == name);
            String::from_utf8(found.unwrap().1.clone()).unwrap()
        };
        let probe = text("systemd.extra-unit.baker-probe.service");
        assert!(probe.contains("ExecStart=/run/baker/probe/guest probe\n"));
        assert!(probe.contains("Requires=run-baker-probe.mount\n"));
        let mount = text("systemd.extra-unit.run-baker-probe.mount");
        assert!(mount.contains("What=/dev/disk/by-id/virtio-baker-probe\n"));
        assert!(mount.contains("Where=/run/baker/probe\n"));
        for target in ["default.target", "multi-user.target"] {
            let text = text(&format!("systemd.unit-dropin.{target}~baker-probe"));
            assert_eq!(text, "[Unit]\nWants=baker-probe.service\n");
        }
        // All credentials of a machine together may have one MiB; SMBIOS leaves far less.
        let bytes: usize = credentials.iter().map(|(_, text)| text.len()).sum();
        assert!(bytes < 4096, "{bytes}");
    }
}
