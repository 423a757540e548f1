//! Who may log in by SSH, and the key by which the host is known.
//!
//! sshd of an image with keys looks for them in two folders and nowhere else: one that is part of
//! the image, and one in `/run` that is filled from credentials at boot. Neither depends on home
//! directories, which may be on a file system that is empty when the machine starts, and sshd
//! reads both itself: the way by `userdbctl` would need its daemon and a program for each login.
//!
//! The host's own key is never part of an image. It comes as a credential, or is made at the
//! first start of `/var`.
//!
//! | file | what it does |
//! |---|---|
//! | `sshd_config.d/10-baker.conf` | where keys of users and the key of the host are |
//! | `tmpfiles.d/baker-ssh.conf` | keys from credentials into `/run`, the host's into `/var` |
//! | `baker-ssh-host-key.service` | makes the key of the host when there is none |

use baker_model::Recipe;
use baker_model::recipe::{AUTHORIZED_KEYS, Credential, SSH_KEYS};

use super::{UNITS, need, write};
use crate::configure::error::ConfigureError;
use crate::configure::image::Image;
use crate::configure::units::Units;

const EFFECT: &str = "ssh";
const TABLE: &str = "[[user]] authorized-keys";

/// Where the keys from credentials are while the machine runs.
const RUNNING: &str = "/run/ssh/authorized_keys.d";

/// The key of the host, and the credential that may bring it.
const HOST_KEY: &str = "/var/lib/ssh/ssh_host_ed25519_key";
const HOST_CREDENTIAL: &str = "ssh.host_key.ed25519";

/// The effect, for a recipe that says who logs in; nothing for others.
pub(super) fn provide(image: &mut Image<'_>, recipe: &Recipe) -> Result<(), ConfigureError> {
    let mut users: Vec<&str> = recipe
        .credentials
        .iter()
        .filter_map(Credential::ssh_user)
        .collect();
    users.sort_unstable();
    users.dedup();
    let fixed = recipe.users.iter().any(|user| user.keys_file().is_some());
    if users.is_empty() && !fixed {
        return Ok(());
    }
    need(image, TABLE, "/usr/sbin/sshd", "openssh-server")?;
    need(image, TABLE, "/usr/bin/ssh-keygen", "openssh-client")?;
    let main = image.read_text("/etc/ssh/sshd_config")?.unwrap_or_default();
    if !main
        .lines()
        .any(|line| line.starts_with("Include /etc/ssh/sshd_config.d/"))
    {
        return Err(ConfigureError::Setting {
            table: TABLE,
            problem: "/etc/ssh/sshd_config does not include /etc/ssh/sshd_config.d/*.conf, which \
                      says where the keys are"
                .to_owned(),
        });
    }
    for (path, text) in files(&users) {
        write(image, &path, text, EFFECT)?;
    }
    image.symlink(
        &format!("{UNITS}/ssh.service.wants/baker-ssh-host-key.service"),
        "../baker-ssh-host-key.service",
        EFFECT,
    )?;
    if Units::has(image, "sshd-keygen.service")? {
        // It would write to /etc, at what it takes for the first boot.
        Units::disable(image, "sshd-keygen.service")?;
        Units::mask(image, "sshd-keygen.service", EFFECT)?;
    }
    if !users.is_empty() && !image.exists("/etc/tmpfiles.d/provision.conf")? {
        // systemd's own line puts the keys of root into a home directory of the sealed root.
        image.symlink("/etc/tmpfiles.d/provision.conf", "/dev/null", EFFECT)?;
    }
    Ok(())
}

fn files(users: &[&str]) -> [(String, String); 4] {
    let mut rules = format!(
        "d /var/lib/ssh 0700 root root -\n\
         f^ {HOST_KEY} 0600 root root - {HOST_CREDENTIAL}\n\
         d /run/ssh 0755 root root -\n\
         d {RUNNING} 0755 root root -\n"
    );
    for user in users {
        // Public keys: sshd reads them with the rights of the user.
        rules.push_str(&format!(
            "f^ {RUNNING}/{user} 0644 root root - {SSH_KEYS}{user}\n"
        ));
    }
    [
        (
            "/etc/ssh/sshd_config.d/10-baker.conf".to_owned(),
            format!("AuthorizedKeysFile {AUTHORIZED_KEYS}/%u {RUNNING}/%u\nHostKey {HOST_KEY}\n"),
        ),
        ("/usr/lib/tmpfiles.d/baker-ssh.conf".to_owned(), rules),
        (
            format!("{UNITS}/systemd-tmpfiles-setup.service.d/50-baker-ssh.conf"),
            format!(
                "[Service]\nImportCredential={SSH_KEYS}*\nImportCredential={HOST_CREDENTIAL}\n"
            ),
        ),
        (
            format!("{UNITS}/baker-ssh-host-key.service"),
            format!(
                "[Unit]\nDescription=SSH Key of This Host\nBefore=ssh.service ssh.socket\n\
                 ConditionPathExists=!{HOST_KEY}\nRequiresMountsFor={HOST_KEY}\n\n\
                 [Service]\nType=oneshot\nRemainAfterExit=yes\n\
                 ExecStart=/usr/bin/ssh-keygen -q -t ed25519 -N \"\" -C \"\" -f {HOST_KEY}\n"
            ),
        ),
    ]
}
