//! What a root needs so that its boots are counted: `slots = 2`.
//!
//! systemd-boot counts the tries of a new version down in the name of its UKI. Somebody inside the
//! booted system has to say that the boot is good (systemd-bless-boot, which takes the counter out
//! of the name), and whatever else happens has to end in a reboot, so that the loader gets its
//! next try and at last the other slot. All of it stands in files below `/usr/lib/systemd`, which
//! a recipe can replace (a file that is there already is kept) or override in `/etc/systemd`.
//!
//! | file | what it does |
//! |---|---|
//! | `efi.mount` | mounts the ESP, only when a boot is to be blessed |
//! | `baker-efi-modules.service` | loads vfat for it: a sealed root need not have modprobe |
//! | `baker-health.service` | the gate: no failed unit, and those of `[disk] health` active; else a reboot |
//! | `boot-complete.target.d` | a boot that is not good after `health-seconds` is ended by a reboot |
//! | `emergency.service.d` | reboots instead of waiting for somebody at the console |
//! | `system.conf.d` | arms the watchdog against hangs; a crashed systemd reboots |

use std::fmt::Write as _;

use baker_model::Recipe;

use super::error::ConfigureError;
use super::image::{Access, Image};
use super::units::Units;

const EFFECT: &str = "slots";
const SYSTEMD: &str = "/usr/lib/systemd";

/// Where the ESP is mounted.
pub(super) const ESP: &str = "/efi";

/// The partition label that the disk stage gives the EFI system partition.
pub const ESP_LABEL: &str = "esp";

/// What takes the counter out of the UKI's name, and what starts that when there is one.
const BLESSING: [&str; 2] = [
    "/usr/lib/systemd/systemd-bless-boot",
    "/usr/lib/systemd/system-generators/systemd-bless-boot-generator",
];

/// Modules that mounting the ESP takes, in loading order: its default code page and character set
/// (`CONFIG_FAT_DEFAULT_*` of Debian's kernels) and the file system.
pub const ESP_MODULES: [&str; 3] = ["nls_cp437", "nls_ascii", "vfat"];

/// The effect, for a recipe with two slots; nothing for others.
pub(super) fn count_boots(image: &mut Image<'_>, recipe: &Recipe) -> Result<(), ConfigureError> {
    if recipe.disk.slots != 2 {
        return Ok(());
    }
    for path in BLESSING {
        if !image.exists(path)? {
            return Err(ConfigureError::Blessing { path });
        }
    }
    for unit in &recipe.disk.health {
        if !Units::has(image, unit)? {
            let problem = "[disk] health wants it active, but no package of the image has it, or \
                           it is masked";
            return Err(ConfigureError::Unit {
                unit: unit.clone(),
                problem: problem.to_owned(),
            });
        }
    }
    image.ensure_directory(ESP, Access::root(0o700), EFFECT)?;
    for (path, text) in files(recipe) {
        let path = format!("{SYSTEMD}/{path}");
        if !image.exists(&path)? {
            image.write(&path, text, Access::root(0o644), EFFECT)?;
        }
    }
    image.symlink(
        &format!("{SYSTEMD}/system/boot-complete.target.requires/baker-health.service"),
        "../baker-health.service",
        EFFECT,
    )
}

fn files(recipe: &Recipe) -> [(&'static str, String); 8] {
    let seconds = recipe.disk.health_seconds();
    [
        ("baker-efi-modules.conf", ESP_MODULES.join("\n") + "\n"),
        ("system/baker-efi-modules.service", modules_unit()),
        ("system/efi.mount", esp_mount()),
        (
            // Only what blesses a boot mounts the ESP: no other boot can hurt it, and none waits
            // for a disk without one.
            "system/systemd-bless-boot.service.d/50-baker.conf",
            format!("[Unit]\nRequiresMountsFor={ESP}\n"),
        ),
        ("system/baker-health.service", health_unit(recipe)),
        (
            // The job exists only in boots that are counted: the generator of bless-boot asks
            // for the target.
            "system/boot-complete.target.d/50-baker.conf",
            format!("[Unit]\nJobTimeoutSec={seconds}\nJobTimeoutAction=reboot-force\n"),
        ),
        (
            "system/emergency.service.d/50-baker.conf",
            "[Service]\nExecStartPre=\nExecStart=\nExecStart=/usr/bin/systemctl --force reboot\n"
                .to_owned(),
        ),
        (
            "system.conf.d/50-baker.conf",
            "[Manager]\nRuntimeWatchdogSec=30s\nCrashAction=reboot\n".to_owned(),
        ),
    ]
}

fn modules_unit() -> String {
    format!(
        "[Unit]\nDescription=Modules of the EFI System Partition\nDefaultDependencies=no\n\
         Conflicts=shutdown.target\nBefore=shutdown.target\n\n\
         [Service]\nType=oneshot\nRemainAfterExit=yes\n\
         ExecStart={SYSTEMD}/systemd-modules-load {SYSTEMD}/baker-efi-modules.conf\n"
    )
}

fn esp_mount() -> String {
    format!(
        "[Unit]\nDescription=EFI System Partition\nDefaultDependencies=no\n\
         Wants=baker-efi-modules.service\nAfter=baker-efi-modules.service\n\
         Conflicts=umount.target\nBefore=umount.target\n\n\
         [Mount]\nWhat=/dev/disk/by-partlabel/{ESP_LABEL}\nWhere={ESP}\nType=vfat\n\
         Options=rw,nosuid,nodev,noexec,umask=0077\n"
    )
}

/// The gate. Its output goes to the console too: the next boot is another version, and the
/// journal of this one is gone.
fn health_unit(recipe: &Recipe) -> String {
    let health = &recipe.disk.health;
    let mut text = "[Unit]\nDescription=Health of This Boot\n\
                    After=default.target graphical.target multi-user.target\n"
        .to_owned();
    for unit in health {
        // Writing to a string cannot fail.
        writeln!(text, "After={unit}").unwrap_or_default();
    }
    text.push_str(
        "Before=boot-complete.target\nFailureAction=reboot-force\n\n\
         [Service]\nType=oneshot\nRemainAfterExit=yes\n\
         StandardOutput=journal+console\nStandardError=journal+console\n\
         ExecStart=-/usr/bin/systemctl list-units --failed --plain --no-legend\n",
    );
    if !health.is_empty() {
        let units = health.join(" ");
        writeln!(
            text,
            "ExecStart=-/usr/bin/systemctl list-units --all --plain --no-legend {units}"
        )
        .unwrap_or_default();
    }
    writeln!(text, "ExecStart={SYSTEMD}/systemd-boot-check-no-failures").unwrap_or_default();
    for unit in health {
        writeln!(
            text,
            "ExecStart=/usr/bin/systemctl is-active --quiet {unit}"
        )
        .unwrap_or_default();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configure::testing;

    const FILES: [(&str, &str); 4] = [
        (BLESSING[0], ""),
        (BLESSING[1], ""),
        ("/usr/lib/systemd/system/web.service", "[Service]\n"),
        ("/usr/lib/systemd/system/efi.mount", "own\n"),
    ];

    fn recipe(disk: &str) -> Recipe {
        let text = format!(
            "name = \"x\"\nversion = \"1.0.0\"\n[debian]\nsuite = \"trixie\"\npackages = []\n\
             [kernel]\npackage = \"k\"\n[disk]\n{disk}\n"
        );
        Recipe::parse(&text).unwrap()
    }

    #[test]
    fn one_slot_changes_nothing() {
        let spool = testing::spool();
        let mut image = testing::image(&spool, &FILES);
        let before = image.tree.clone();
        count_boots(&mut image, &recipe("slots = 1")).unwrap();
        assert_eq!(image.tree, before);
    }

    #[test]
    fn two_slots_bring_gate_and_mount() {
        let spool = testing::spool();
        let mut image = testing::image(&spool, &FILES);
        let recipe = recipe("slots = 2\nhealth = [\"web.service\"]\nhealth-seconds = 7");
        count_boots(&mut image, &recipe).unwrap();
        let text = |path: &str| {
            let path = format!("/usr/lib/systemd/system/{path}");
            image.read_text(&path).unwrap().unwrap()
        };
        let gate = text("boot-complete.target.requires/baker-health.service");
        for line in [
            "After=web.service\n",
            "FailureAction=reboot-force\n",
            "systemd-boot-check-no-failures\n",
            "is-active --quiet web.service\n",
        ] {
            assert!(gate.contains(line), "{gate}");
        }
        assert!(text("boot-complete.target.d/50-baker.conf").contains("JobTimeoutSec=7\n"));
        // The recipe's own file stays.
        assert_eq!(text("efi.mount"), "own\n");
        assert!(image.is_directory(ESP).unwrap());
    }

    #[test]
    fn what_is_missing_is_named() {
        let spool = testing::spool();
        let mut image = testing::image(&spool, &FILES[1..]);
        let error = count_boots(&mut image, &recipe("slots = 2")).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("systemd-bless-boot") && error.contains("\"systemd-boot\""));
        let mut image = testing::image(&spool, &FILES);
        let recipe = recipe("slots = 2\nhealth = [\"gone.service\"]");
        let error = count_boots(&mut image, &recipe).unwrap_err().to_string();
        assert!(error.contains("gone.service"), "{error}");
    }
}
