//! What makes a read-only root settle: identity, stamps, and units that have nothing to do.

use super::error::ConfigureError;
use super::image::{Access, Image};
use super::units::Units;

const EFFECT: &str = "sealed";

/// When a unit is masked.
enum When {
    /// In every image.
    Always,
    /// When the program that it starts is not in the image.
    Without(&'static str),
    /// When `/var` is gone at power off.
    VolatileVar,
}

/// Units that a sealed image has no use for.
const MASKED: [(&str, When, &str); 19] = [
    (
        "systemd-firstboot.service",
        When::Always,
        "asks for settings that the recipe has made",
    ),
    (
        "systemd-hwdb-update.service",
        When::Always,
        "rewrites /usr, which is read-only",
    ),
    (
        "ldconfig.service",
        When::Always,
        "the loader cache is part of the image",
    ),
    (
        "systemd-sysusers.service",
        When::Always,
        "the accounts are part of the image",
    ),
    (
        "systemd-update-done.service",
        When::Always,
        "an image is replaced, never updated in place",
    ),
    (
        "systemd-machine-id-commit.service",
        When::Always,
        "/etc is read-only, the id lasts one boot",
    ),
    (
        "systemd-journal-catalog-update.service",
        When::Always,
        "only `journalctl -x` reads the catalogue, at the cost of a second at every boot",
    ),
    (
        "systemd-boot-update.service",
        When::Always,
        "the loader is replaced together with the image",
    ),
    (
        "systemd-boot-random-seed.service",
        When::Always,
        "it would write to the ESP at every boot",
    ),
    (
        "systemd-bootctl.socket",
        When::Always,
        "nobody asks a sealed image for its boot entries",
    ),
    (
        "systemd-random-seed.service",
        When::VolatileVar,
        "a seed that is not kept helps nobody",
    ),
    (
        "systemd-pstore.service",
        When::VolatileVar,
        "it would move crash records to where they vanish",
    ),
    (
        "getty@.service",
        When::Without("/usr/sbin/agetty"),
        "there is no agetty",
    ),
    (
        "serial-getty@.service",
        When::Without("/usr/sbin/agetty"),
        "there is no agetty",
    ),
    (
        "console-getty.service",
        When::Without("/usr/sbin/agetty"),
        "there is no agetty",
    ),
    (
        "container-getty@.service",
        When::Without("/usr/sbin/agetty"),
        "there is no agetty",
    ),
    (
        "debug-shell.service",
        When::Without("/bin/sh"),
        "there is no shell",
    ),
    (
        "systemd-ask-password-console.path",
        When::Without("/bin/sh"),
        "nobody is at the console",
    ),
    (
        "systemd-ask-password-wall.path",
        When::Without("/bin/sh"),
        "nobody is logged in",
    ),
];

/// Whether `/var` outlives a boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Var {
    /// A tmpfs.
    Volatile,
    /// The data partition.
    Kept,
}

/// Masks what is of no use; gives each unit with its reason.
pub(super) fn mask_useless(
    image: &mut Image<'_>,
    var: Var,
) -> Result<Vec<(String, String)>, ConfigureError> {
    let mut masked = Vec::new();
    for (unit, when, reason) in MASKED {
        let applies = match when {
            When::Always => true,
            When::Without(program) => !image.exists(program)?,
            When::VolatileVar => var == Var::Volatile,
        };
        if applies && Units::has(image, unit)? {
            Units::disable(image, unit)?;
            Units::mask(image, unit, EFFECT)?;
            masked.push((unit.to_owned(), reason.to_owned()));
        }
    }
    Ok(masked)
}

/// Identity and stamps.
///
/// An empty machine id, unlike the word "uninitialized" or none at all, lets systemd make one for
/// this boot without taking it for the first boot of a machine. The stamps say that `/etc` and
/// `/var` are as new as `/usr`, so nothing is brought up to date at boot.
pub(super) fn seal(image: &mut Image<'_>) -> Result<(), ConfigureError> {
    image.write("/etc/machine-id", "", Access::root(0o444), EFFECT)?;
    for stamp in ["/etc/.updated", "/var/.updated"] {
        image.write(stamp, "", Access::root(0o644), EFFECT)?;
    }
    if !image.exists("/etc/fstab")? {
        image.write("/etc/fstab", "", Access::root(0o644), EFFECT)?;
    }
    Ok(())
}
