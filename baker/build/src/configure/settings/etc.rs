//! `[root] etc-overlay`: programs may write to `/etc`.
//!
//! What they write goes to `/var`, so it lives as long as that does. The overlay is mounted by the
//! running system: systemd has read its units from the image by then, and does not read others
//! from what was written. The machine id, which systemd mounts over the empty file of the image
//! before anything else, is mounted once more: the overlay hides it.
//!
//! | file | what it does |
//! |---|---|
//! | `baker-etc.service` | makes the folders on `/var`, and loads the module |
//! | `etc.mount` | the overlay |
//! | `etc-machine\x2did.mount` | the machine id |

use baker_model::Recipe;

use super::{UNITS, write};
use crate::configure::error::ConfigureError;
use crate::configure::image::Image;

const EFFECT: &str = "etc";

/// Where what is written lies.
const KEPT: &str = "/var/lib/baker-etc";

/// The module of the overlay.
pub const ETC_MODULE: &str = "overlay";

/// The effect, for a recipe that asks for it; nothing for others.
pub(super) fn overlay(image: &mut Image<'_>, recipe: &Recipe) -> Result<(), ConfigureError> {
    if !recipe.root.etc_overlay {
        return Ok(());
    }
    for (path, text) in files() {
        write(image, &path, text, EFFECT)?;
    }
    for unit in ["etc.mount", "etc-machine\\x2did.mount"] {
        let link = format!("{UNITS}/local-fs.target.wants/{unit}");
        image.symlink(&link, &format!("../{unit}"), EFFECT)?;
    }
    Ok(())
}

fn files() -> [(String, String); 5] {
    let rules = "/usr/lib/systemd/baker-etc.tmpfiles";
    let modules = "/usr/lib/systemd/baker-etc-modules.conf";
    let unit = |name: &str, text: String| (format!("{UNITS}/{name}"), text);
    [
        // Not in tmpfiles.d: that is run when all is mounted.
        (
            rules.to_owned(),
            format!(
                "d {KEPT} 0700 root root -\nd {KEPT}/upper 0755 root root -\n\
                 d {KEPT}/work 0700 root root -\n"
            ),
        ),
        (modules.to_owned(), format!("{ETC_MODULE}\n")),
        unit(
            "baker-etc.service",
            format!(
                "[Unit]\nDescription=Place for Changes to /etc\nDefaultDependencies=no\n\
                 RequiresMountsFor=/var\nConflicts=shutdown.target\nBefore=shutdown.target\n\n\
                 [Service]\nType=oneshot\nRemainAfterExit=yes\n\
                 ExecStart=/usr/lib/systemd/systemd-modules-load {modules}\n\
                 ExecStart=/usr/bin/systemd-tmpfiles --create {rules}\n"
            ),
        ),
        unit(
            "etc.mount",
            format!(
                "[Unit]\nDescription=Changes to /etc\nDefaultDependencies=no\n\
                 Requires=baker-etc.service\nAfter=baker-etc.service\nRequiresMountsFor=/var\n\
                 Conflicts=umount.target\nBefore=local-fs.target umount.target\n\n\
                 [Mount]\nWhat=overlay\nWhere=/etc\nType=overlay\n\
                 Options=lowerdir=/etc,upperdir={KEPT}/upper,workdir={KEPT}/work\n"
            ),
        ),
        unit(
            "etc-machine\\x2did.mount",
            "[Unit]\nDescription=Machine Id of This Boot\nDefaultDependencies=no\n\
             Requires=etc.mount\nAfter=etc.mount\nConflicts=umount.target\n\
             Before=local-fs.target umount.target\n\n\
             [Mount]\nWhat=/run/machine-id\nWhere=/etc/machine-id\nType=none\nOptions=bind,ro\n"
                .to_owned(),
        ),
    ]
}
