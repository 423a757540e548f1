//! `[disk.data]`: a partition that the machine makes, formats, encrypts and grows by itself.
//!
//! systemd-repart reads the definition at every start. The first time it makes the partition on
//! what is left of the disk; later it grows it when the disk has grown, and changes nothing else:
//! what is in the partition outlives every replacement of the root. The root slots are not named
//! by any definition, so it leaves them alone.
//!
//! | file | what it does |
//! |---|---|
//! | `/usr/lib/repart.d/50-data.conf` | the partition |
//! | `baker-data-modules.service` | loads what formatting and mounting take: a sealed root need not have modprobe |
//! | `systemd-repart.service.d` | after those modules, before anything opens the partition; the key |
//! | `/etc/crypttab` | opens it, when it is encrypted |
//!
//! The mount unit is `var`'s.

use baker_model::Recipe;
use baker_model::recipe::{Architecture, DATA_KEY, Data, DataFormat, Encryption};

use super::{UNITS, need, write};
use crate::configure::error::ConfigureError;
use crate::configure::image::{Access, Image};
use crate::configure::var::DATA_LABEL;

const EFFECT: &str = "data";
const TABLE: &str = "[disk.data]";

/// Modules that the data partition takes, beside that of its file system: repart formats through a
/// loop device; dm-crypt asks for its cipher at run time.
const MODULES: [&str; 1] = ["loop"];
const CRYPT_MODULES: [&str; 2] = ["dm_crypt", "xts"];

/// The data partition as a mount unit wants it: what is mounted, and its file system.
pub(in crate::configure) fn partition(data: &Data) -> (String, &'static str) {
    let device = match data.encrypt {
        Some(_) => format!("/dev/mapper/{DATA_LABEL}"),
        None => format!("/dev/disk/by-partlabel/{DATA_LABEL}"),
    };
    (device, data.format.name())
}

/// Modules of the running system that the recipe's data partition takes.
#[must_use]
pub fn modules(data: &Data) -> Vec<&'static str> {
    let mut names = MODULES.to_vec();
    names.push(data.format.name());
    if data.encrypt.is_some() {
        names.extend(CRYPT_MODULES);
    }
    names
}

/// The effect, for a recipe with the table; nothing for others.
pub(super) fn define(image: &mut Image<'_>, recipe: &Recipe) -> Result<(), ConfigureError> {
    let Some(data) = &recipe.disk.data else {
        return Ok(());
    };
    need(image, TABLE, "/usr/bin/systemd-repart", "systemd-repart")?;
    let (program, package) = match data.format {
        DataFormat::Ext4 => ("/usr/sbin/mkfs.ext4", "e2fsprogs"),
        DataFormat::Btrfs => ("/usr/sbin/mkfs.btrfs", "btrfs-progs"),
    };
    need(image, TABLE, program, package)?;
    if data.encrypt.is_some() {
        need(
            image,
            TABLE,
            "/usr/bin/systemd-cryptsetup",
            "systemd-cryptsetup",
        )?;
    }
    if data.encrypt == Some(Encryption::Tpm2) {
        for (library, package) in tpm_libraries(recipe.architecture) {
            need(image, TABLE, &library, package)?;
        }
    }
    for (path, text) in files(data) {
        write(image, &path, text, EFFECT)?;
    }
    if let Some(line) = opened(data) {
        let table = image.read_text("/etc/crypttab")?.unwrap_or_default();
        let known = |line: &str| line.split_whitespace().next() == Some(DATA_LABEL);
        if !table.lines().any(known) {
            image.rewrite("/etc/crypttab", table + &line, Access::root(0o600), EFFECT)?;
        }
    }
    image.ensure_directory(data.mount(), Access::root(0o755), EFFECT)
}

/// What systemd loads at run time to speak to a TPM.
fn tpm_libraries(architecture: Architecture) -> [(String, &'static str); 3] {
    let folder = match architecture {
        Architecture::Amd64 => "/usr/lib/x86_64-linux-gnu",
        Architecture::Arm64 => "/usr/lib/aarch64-linux-gnu",
    };
    [
        ("libtss2-esys.so.0", "libtss2-esys-3.0.2-0t64"),
        ("libtss2-rc.so.0", "libtss2-rc0t64"),
        ("libtss2-tcti-device.so.0", "libtss2-tcti-device0t64"),
    ]
    .map(|(library, package)| (format!("{folder}/{library}"), package))
}

fn files(data: &Data) -> [(String, String); 4] {
    let encrypt = match data.encrypt {
        None => "",
        Some(Encryption::Tpm2) => "Encrypt=tpm2\n",
        Some(Encryption::Key) => "Encrypt=key-file\n",
    };
    let kind = match data.mount() {
        "/var" => "var",
        _ => "linux-generic",
    };
    let modules = modules(data);
    let list = "/usr/lib/systemd/baker-data-modules.conf".to_owned();
    [
        (
            "/usr/lib/repart.d/50-data.conf".to_owned(),
            format!(
                "[Partition]\nType={kind}\nLabel={DATA_LABEL}\nFormat={}\n{encrypt}\
                 SizeMinBytes={}M\nGrowFileSystem=yes\n",
                data.format.name(),
                data.mib
            ),
        ),
        (list.clone(), modules.join("\n") + "\n"),
        (
            format!("{UNITS}/baker-data-modules.service"),
            format!(
                "[Unit]\nDescription=Modules of the Data Partition\nDefaultDependencies=no\n\
                 Conflicts=shutdown.target\nBefore=shutdown.target\n\n\
                 [Service]\nType=oneshot\nRemainAfterExit=yes\n\
                 ExecStart=/usr/lib/systemd/systemd-modules-load {list}\n"
            ),
        ),
        (
            format!("{UNITS}/systemd-repart.service.d/50-baker-data.conf"),
            format!(
                "[Unit]\nWants=baker-data-modules.service cryptsetup-pre.target\n\
                 After=baker-data-modules.service\nBefore=cryptsetup-pre.target local-fs-pre.target\n\
                 {}",
                repart_key(data)
            ),
        ),
    ]
}

/// Repart gets the key as a file, never on its command line.
fn repart_key(data: &Data) -> String {
    match data.encrypt {
        Some(Encryption::Key) => format!(
            "AssertCredential={DATA_KEY}\n\n[Service]\nImportCredential={DATA_KEY}\nExecStart=\n\
             ExecStart=systemd-repart --dry-run=no --key-file=%d/{DATA_KEY}\n"
        ),
        _ => String::new(),
    }
}

/// The line of `/etc/crypttab`. systemd-cryptsetup takes the key from the credential by itself;
/// nobody is at the console to be asked for another.
fn opened(data: &Data) -> Option<String> {
    let how = match data.encrypt? {
        Encryption::Tpm2 => "tpm2-device=auto,headless",
        // `headless` would keep it from looking for the credential too.
        Encryption::Key => "tries=1,timeout=10s",
    };
    Some(format!(
        "{DATA_LABEL} /dev/disk/by-partlabel/{DATA_LABEL} none luks,discard,{how}\n"
    ))
}
