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
    /// When no architecture's folder of PAM modules has this one.
    WithoutPam(&'static str),
    /// When `/var` is gone at power off.
    VolatileVar,
    /// When these files, and those in these folders, hold nothing but comments.
    NoLines(&'static [&'static str]),
}

/// Every process that a boot does without is a boot that is sooner over: with a shared library of
/// systemd's size even one that finds nothing to do takes its time.
const SHELL: &str = "/bin/sh";

/// Units that a sealed image has no use for.
const MASKED: [(&str, When, &str); 30] = [
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
        "systemd-tmpfiles-setup-dev-early.service",
        When::Always,
        "for accounts that are yet to be made; the later pass does it all",
    ),
    (
        "systemd-udev-load-credentials.service",
        When::Always,
        "the rules of devices are part of the image",
    ),
    (
        "systemd-remount-fs.service",
        When::NoLines(&["/etc/fstab"]),
        "no line of /etc/fstab asks for other mount options",
    ),
    (
        "systemd-modules-load.service",
        When::NoLines(&["/etc/modules-load.d", "/usr/lib/modules-load.d"]),
        "no module is to be loaded by name",
    ),
    (
        "modprobe@.service",
        When::Without("/usr/sbin/modprobe"),
        "there is no modprobe",
    ),
    (
        "sys-kernel-debug.mount",
        When::Without(SHELL),
        "nobody debugs the kernel without a shell",
    ),
    (
        "sys-kernel-tracing.mount",
        When::Without(SHELL),
        "nobody traces the kernel without a shell",
    ),
    (
        "systemd-journal-flush.service",
        When::VolatileVar,
        "the journal stays in memory",
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
        When::Without(SHELL),
        "there is no shell",
    ),
    (
        "e2scrub_all.timer",
        When::Without("/usr/sbin/lvcreate"),
        "it looks at file systems on LVM, which is not there",
    ),
    (
        "e2scrub_reap.service",
        When::Without("/usr/sbin/lvcreate"),
        "it looks at file systems on LVM, which is not there",
    ),
    (
        "systemd-user-sessions.service",
        When::WithoutPam("pam_nologin.so"),
        "nothing in the image asks whether logins are allowed",
    ),
    (
        "systemd-ask-password-console.path",
        When::Without(SHELL),
        "nobody is at the console",
    ),
    (
        "systemd-ask-password-wall.path",
        When::Without(SHELL),
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

/// What systemd runs before it loads a unit, and a sealed image has no use for.
const GENERATORS: [(&str, When, &str); 8] = [
    (
        "systemd-gpt-auto-generator",
        When::Always,
        "every partition of the disk has its mount unit",
    ),
    (
        "systemd-hibernate-resume-generator",
        When::Always,
        "no swap is kept to resume from",
    ),
    (
        "systemd-system-update-generator",
        When::Always,
        "an image is replaced, never updated in place",
    ),
    (
        "systemd-fstab-generator",
        When::NoLines(&["/etc/fstab"]),
        "/etc/fstab has no line",
    ),
    (
        "systemd-rc-local-generator",
        When::Without("/etc/rc.local"),
        "there is no /etc/rc.local",
    ),
    (
        "systemd-getty-generator",
        When::Without("/usr/sbin/agetty"),
        "there is no agetty",
    ),
    (
        "systemd-ssh-generator",
        When::Without("/usr/sbin/sshd"),
        "there is no sshd",
    ),
    (
        "systemd-run-generator",
        When::Without(SHELL),
        "no command is run from the kernel command line",
    ),
];

/// Where generators are, and where links to `/dev/null` switch them off.
const GENERATOR_FOLDERS: [&str; 2] = [
    "/usr/lib/systemd/system-generators",
    "/etc/systemd/system-generators",
];

/// Masks what is of no use; gives each unit and generator with its reason.
pub(super) fn mask_useless(
    image: &mut Image<'_>,
    var: Var,
) -> Result<Vec<(String, String)>, ConfigureError> {
    let mut masked = Vec::new();
    for (unit, when, reason) in MASKED {
        if when.applies(image, var)? && Units::has(image, unit)? {
            Units::disable(image, unit)?;
            Units::mask(image, unit, EFFECT)?;
            masked.push((unit.to_owned(), reason.to_owned()));
        }
    }
    let [from, to] = GENERATOR_FOLDERS;
    let mut generators = Vec::from(GENERATORS.map(|(name, when, reason)| (name, when, reason)));
    if !needs_init_scripts(image)? {
        let reason = "every script of /etc/init.d has a unit";
        generators.push(("systemd-sysv-generator", When::Always, reason));
    }
    for (name, when, reason) in generators {
        let own = format!("{to}/{name}");
        let there = image.exists(&format!("{from}/{name}"))?;
        if when.applies(image, var)? && there && image.node_itself(&own)?.is_none() {
            image.symlink(&own, "/dev/null", EFFECT)?;
            masked.push((name.to_owned(), reason.to_owned()));
        }
    }
    Ok(masked)
}

/// True when a script of `/etc/init.d` is all that a service has: the generator makes its unit.
fn needs_init_scripts(image: &Image<'_>) -> Result<bool, ConfigureError> {
    for script in image.names("/etc/init.d")? {
        let service = format!("{}.service", script.strip_suffix(".sh").unwrap_or(&script));
        if !Units::known(image, &service)? {
            return Ok(true);
        }
    }
    Ok(false)
}

impl When {
    fn applies(&self, image: &Image<'_>, var: Var) -> Result<bool, ConfigureError> {
        match self {
            Self::Always => Ok(true),
            Self::Without(program) => Ok(!image.exists(program)?),
            Self::WithoutPam(module) => {
                for libraries in image.names("/usr/lib")? {
                    if image.exists(&format!("/usr/lib/{libraries}/security/{module}"))? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Self::VolatileVar => Ok(var == Var::Volatile),
            Self::NoLines(places) => {
                for place in *places {
                    let names = image.names(place)?;
                    let inside = names.iter().map(|name| format!("{place}/{name}"));
                    for path in inside.chain([(*place).to_owned()]) {
                        let text = image.read_text(&path)?.unwrap_or_default();
                        if text.lines().any(says_something) {
                            return Ok(false);
                        }
                    }
                }
                Ok(true)
            }
        }
    }
}

fn says_something(line: &str) -> bool {
    !line.trim().is_empty() && !line.trim_start().starts_with(['#', ';'])
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configure::testing;

    const UNITS: &str = "/usr/lib/systemd/system";

    #[test]
    fn what_has_something_to_do_is_left_alone() {
        let generators = "/usr/lib/systemd/system-generators";
        let base = [
            (format!("{UNITS}/systemd-modules-load.service"), ""),
            (format!("{UNITS}/systemd-remount-fs.service"), ""),
            (format!("{UNITS}/modprobe@.service"), ""),
            (format!("{UNITS}/web.service"), ""),
            (format!("{generators}/systemd-fstab-generator"), ""),
            (format!("{generators}/systemd-sysv-generator"), ""),
            ("/etc/modules-load.d/modules.conf".to_owned(), "# none\n\n"),
            ("/etc/init.d/web".to_owned(), ""),
        ];
        let all = [
            "modprobe@.service",
            "systemd-fstab-generator",
            "systemd-modules-load.service",
            "systemd-remount-fs.service",
            "systemd-sysv-generator",
        ];
        let rows: [((&str, &str), &[&str]); 5] = [
            (("/etc/fstab", "# nothing\n"), &[]),
            (
                ("/etc/fstab", "# x\n/dev/sda1 /srv ext4\n"),
                &["systemd-fstab-generator", "systemd-remount-fs.service"],
            ),
            (
                ("/usr/lib/modules-load.d/a.conf", "loop\n"),
                &["systemd-modules-load.service"],
            ),
            (("/usr/sbin/modprobe", ""), &["modprobe@.service"]),
            (("/etc/init.d/old", ""), &["systemd-sysv-generator"]),
        ];
        for (extra, kept) in rows {
            let spool = testing::spool();
            let files = base.iter().map(|(path, text)| (&**path, *text));
            let files: Vec<_> = files.chain([extra]).collect();
            let mut image = testing::image(&spool, &files);
            let masked = mask_useless(&mut image, Var::Volatile).unwrap();
            let mut names: Vec<_> = masked.iter().map(|(name, _)| &**name).collect();
            names.sort_unstable();
            let expected: Vec<_> = all
                .into_iter()
                .filter(|name| !kept.contains(name))
                .collect();
            assert_eq!(names, expected, "{extra:?}");
        }
    }
}
