//! `[disk]`: partitions and the forms of the disk.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::parse::find_key;
use super::{Format, Recipe, RecipeError};

/// `[disk]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Disk {
    /// Root slots: 1, or 2 for A/B with systemd-boot and boot counting.
    pub slots: u8,
    /// Forms of disk and root to make beside the raw disk, which is always made.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub formats: Vec<Format>,
    /// Size of the EFI system partition in MiB; room for three UKIs when not given.
    pub esp_mib: Option<u32>,
    /// Size of one root slot in MiB; as large as needed when not given (`slots = 2`: half as much again).
    pub slot_mib: Option<u32>,
    /// Size of an empty data partition in MiB; none when not given.
    pub data_mib: Option<u32>,
    /// A data partition that the machine makes when it starts for the first time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Data>,
    /// `slots = 2`: boots that a new version has to prove itself in, 1 to 9; 3 when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tries: Option<u8>,
    /// `slots = 2`: units that must be active for a boot to count as good. That no unit at all has
    /// failed is asked in any case.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub health: Vec<String>,
    /// `slots = 2`: seconds after which a boot that is not known to be good counts as bad; 300
    /// when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_seconds: Option<u32>,
}

/// `[disk.data]`: made by the machine itself, on all that is left of its disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Data {
    /// Room that the disk image leaves for it, in MiB; on a larger disk it is larger.
    pub mib: u32,
    /// Its file system.
    pub format: DataFormat,
    /// Whether it can be read without the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encrypt: Option<Encryption>,
    /// Where it is mounted; `/var` is what an image otherwise keeps in memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mount: Option<String>,
}

impl Data {
    /// Where it is mounted.
    #[must_use]
    pub fn mount(&self) -> &str {
        self.mount.as_deref().unwrap_or("/var")
    }
}

impl Default for Data {
    fn default() -> Self {
        Self {
            mib: 512,
            format: DataFormat::Ext4,
            encrypt: None,
            mount: None,
        }
    }
}

/// File system of the data partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DataFormat {
    /// ext4.
    #[default]
    Ext4,
    /// btrfs.
    Btrfs,
}

impl DataFormat {
    /// The name that mount(8) and mkfs(8) have for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Btrfs => "btrfs",
        }
    }
}

/// What opens an encrypted data partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Encryption {
    /// The TPM of the machine, as long as its Secure Boot policy is the same.
    Tpm2,
    /// A key that the machine is given at every start, as the credential
    /// [`DATA_KEY`].
    Key,
}

/// The credential with the key of the data partition; systemd-cryptsetup looks for this name.
pub const DATA_KEY: &str = "cryptsetup.passphrase";

/// Checks what TOML cannot.
pub(super) fn check_data(recipe: &Recipe, text: &str) -> Result<(), RecipeError> {
    let Some(data) = &recipe.disk.data else {
        return Ok(());
    };
    let table = text.find("[disk.data]").unwrap_or(0);
    let at = |key: &str| table + find_key(&text[table..], key);
    if recipe.disk.data_mib.is_some() {
        let problem = "`data-mib` and [disk.data] both make the data partition: keep one";
        return Err(RecipeError::at(text, find_key(text, "data-mib"), problem));
    }
    // mkfs.btrfs wants 109 MiB, and LUKS takes 16 for itself.
    if data.mib < 128 {
        let problem = format!(
            "a data partition of {} MiB is too small: 128 or more",
            data.mib
        );
        return Err(RecipeError::at(text, at("mib"), problem));
    }
    let mount = data.mount();
    let is_place = |c: char| c.is_ascii_alphanumeric() || "/-_.".contains(c);
    let system = [
        "/usr", "/etc", "/boot", "/efi", "/proc", "/sys", "/dev", "/run", "/tmp",
    ];
    let inside = |folder: &&str| mount == *folder || mount.starts_with(&format!("{folder}/"));
    let places = mount.starts_with('/')
        && mount.len() > 1
        && !mount.ends_with('/')
        && !mount.split('/').any(|part| part == "..")
        && mount.chars().all(is_place)
        && !system.iter().any(inside);
    if !places {
        let problem = format!("`{mount}` is no place for data: write \"/var\" or \"/srv\"");
        return Err(RecipeError::at(text, at("mount"), problem));
    }
    let declared = |name: &str| recipe.credentials.iter().any(|it| it.name == name);
    if data.encrypt == Some(Encryption::Key) && !declared(DATA_KEY) {
        let problem = "encrypt = \"key\" takes the key from a credential, which is not declared";
        let hint = format!(
            "add [[credential]] with name = \"{DATA_KEY}\" and purpose = \"opens the data partition\""
        );
        return Err(RecipeError::at(text, at("encrypt"), problem).hint(hint));
    }
    Ok(())
}

impl Disk {
    /// Boots that a new version has to prove itself in.
    #[must_use]
    pub fn tries(&self) -> u8 {
        self.tries.unwrap_or(3)
    }

    /// Seconds after which a boot that is not known to be good counts as bad.
    #[must_use]
    pub fn health_seconds(&self) -> u32 {
        self.health_seconds.unwrap_or(300)
    }
}

impl Default for Disk {
    fn default() -> Self {
        Self {
            slots: 1,
            formats: Vec::new(),
            esp_mib: None,
            slot_mib: None,
            data_mib: None,
            data: None,
            tries: None,
            health: Vec::new(),
            health_seconds: None,
        }
    }
}
