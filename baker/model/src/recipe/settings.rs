//! The tables and keys of a recipe.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Credential, Debian, Directory, Disk, FileEntry, Group, Hygiene, Link, Modules, Network,
    Promote, Resolver, Root, Run, Services, Snippet, Stage, SysctlValue, System, Update, User,
    snippet,
};
use crate::Digest;
use crate::plan::TestPlan;

/// A whole recipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Recipe {
    /// Name of the recipe and of its releases: `[a-z0-9][a-z0-9-]*`, at most 32 bytes.
    #[schemars(extend("pattern" = "^[a-z0-9][a-z0-9-]{0,31}$"))]
    pub name: String,
    /// Version of the release, SemVer.
    pub version: String,
    /// One line about it.
    #[serde(default)]
    pub summary: String,
    /// Folder of the recipe that this one extends, relative to its own.
    // It is merged before a whole recipe is parsed, and says nothing of the result.
    #[serde(default, skip_serializing)]
    pub extends: Option<String>,
    /// Variants of the recipe, each with keys of a recipe that are merged into this one.
    #[serde(default, skip_serializing, rename = "profile")]
    pub profiles: Profiles,
    /// Architecture of the target.
    #[serde(default)]
    pub architecture: Architecture,
    /// Packages and where they come from.
    pub debian: Debian,
    /// Kernel, its modules and command line.
    pub kernel: Kernel,
    /// Stub and boot loader.
    #[serde(default)]
    pub boot: Boot,
    /// Commands that run in the tree while it is baked.
    #[serde(default, rename = "run", skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<Run>,
    /// Trees of their own that files of the image are made in.
    #[serde(default, rename = "stage", skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<Stage>,
    /// Files to add.
    #[serde(default, rename = "file")]
    pub files: Vec<FileEntry>,
    /// Directories to add.
    #[serde(default, rename = "directory")]
    pub directories: Vec<Directory>,
    /// Symbolic links to add.
    #[serde(default, rename = "link")]
    pub links: Vec<Link>,
    /// Groups to add.
    #[serde(default, rename = "group")]
    pub groups: Vec<Group>,
    /// Users to add.
    #[serde(default, rename = "user")]
    pub users: Vec<User>,
    /// Units to enable, disable or mask.
    #[serde(default)]
    pub services: Services,
    /// What the machine is told when it starts.
    #[serde(default, rename = "credential", skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<Credential>,
    /// Addresses.
    #[serde(default, rename = "network", skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<Network>,
    /// How names are found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolver: Option<Resolver>,
    /// Settings of the running kernel.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctl: BTreeMap<String, SysctlValue>,
    /// What the running system does with modules.
    #[serde(default, skip_serializing_if = "Modules::is_default")]
    pub modules: Modules,
    /// Accounts in the words of systemd-sysusers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sysusers: Vec<Snippet>,
    /// Files made at boot, in the words of systemd-tmpfiles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tmpfiles: Vec<Snippet>,
    /// Which units are enabled, in the words of `systemctl preset`.
    #[serde(default, rename = "preset", skip_serializing_if = "Vec::is_empty")]
    pub presets: Vec<Snippet>,
    /// Host name and the like.
    #[serde(default)]
    pub system: System,
    /// More fields of `os-release`.
    #[serde(default)]
    pub os_release: BTreeMap<String, String>,
    /// The root file system.
    #[serde(default)]
    pub root: Root,
    /// The disk.
    #[serde(default)]
    pub disk: Disk,
    /// From where machines update themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<Update>,
    /// What may be in the image though it usually must not.
    #[serde(default, skip_serializing_if = "Hygiene::is_default")]
    pub hygiene: Hygiene,
    /// The bill of materials.
    #[serde(default, skip_serializing_if = "Sbom::is_default")]
    pub sbom: Sbom,
    /// Smoke tests.
    #[serde(default, rename = "test")]
    pub tests: Vec<TestPlan>,
    /// What a release must show before a channel may point to it, by channel.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub promote: BTreeMap<String, Promote>,
}

impl Recipe {
    /// Digest of the recipe's meaning: comments, order of keys and layout do not change it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&serde_json::to_vec(self).expect("a recipe holds only plain data"))
    }

    /// The files that the recipe adds: its `[[file]]` tables, and those that other tables stand
    /// for.
    pub fn all_files(&self) -> impl Iterator<Item = Cow<'_, FileEntry>> {
        let files = self.files.iter().map(Cow::Borrowed);
        files.chain(self.derived_files().into_iter().map(Cow::Owned))
    }

    /// The files that tables of settings stand for.
    pub(super) fn derived_files(&self) -> Vec<FileEntry> {
        let keyring = self.update.as_ref().and_then(Update::keyring_file);
        let keys = self.users.iter().filter_map(User::keys_file);
        let networks = self.networks.iter().enumerate();
        let networks = networks.map(|(place, network)| network.file(place));
        let settings = snippet::files(self).into_iter();
        let all = keyring.into_iter().chain(keys).chain(networks);
        all.chain(self.system.certificate_files())
            .chain(settings)
            .collect()
    }
}

/// Names of the profiles. What they hold counts when one is asked for, and is parsed then.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(from = "BTreeMap<String, toml::Table>")]
#[schemars(with = "BTreeMap<String, BTreeMap<String, serde_json::Value>>")]
pub struct Profiles(pub Vec<String>);

impl From<BTreeMap<String, toml::Table>> for Profiles {
    fn from(tables: BTreeMap<String, toml::Table>) -> Self {
        Self(tables.into_keys().collect())
    }
}

/// Architecture of the target, in Debian's words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Architecture {
    /// x86-64.
    #[default]
    Amd64,
    /// AArch64.
    Arm64,
}

impl Architecture {
    /// The one that Debian calls so; none for machines that baker does not know.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let all = [Self::Amd64, Self::Arm64];
        all.into_iter().find(|known| known.name() == name)
    }

    /// Debian's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }
}

/// `[kernel]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Kernel {
    /// Package of the kernel image, or a package that depends on it.
    pub package: String,
    /// Modules of the initrd, by name; what they need comes along.
    #[serde(default)]
    pub modules: Vec<String>,
    /// Modules of the root file system.
    #[serde(default)]
    pub root_modules: RootModules,
    /// Words of the kernel command line; baker adds its root hash.
    #[serde(default)]
    pub command_line: Vec<String>,
    /// Patterns of the firmware blobs that devices get, below `/usr/lib/firmware`. Those of
    /// packages that none of them names are left out; without the key all stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<Vec<String>>,
}

/// Which modules the root file system holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RootModules {
    /// `"all"` or `"none"`.
    Word(ModuleWord),
    /// These, by name, and what they need.
    Named(Vec<String>),
}

impl Default for RootModules {
    fn default() -> Self {
        Self::Word(ModuleWord::All)
    }
}

/// A word instead of a list of modules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ModuleWord {
    /// Every module of the kernel package.
    All,
    /// No module.
    None,
}

/// `[boot]`: where stub and loader come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Boot {
    /// Package that holds systemd-stub and systemd-boot.
    pub package: String,
    /// Seconds that systemd-boot shows its menu (`slots = 2` only).
    pub menu_seconds: u32,
    /// True when the firmware must be able to check what it starts: UKI and systemd-boot are then
    /// signed with the key that the place of the bake gives.
    #[serde(skip_serializing_if = "is_false")]
    pub secure_boot: bool,
}

// Left out when false, so that recipes without it keep their digest and their lock.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands out references"
)]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

impl Default for Boot {
    fn default() -> Self {
        Self {
            package: "systemd-boot-efi".to_owned(),
            menu_seconds: 0,
            secure_boot: false,
        }
    }
}

/// `[sbom]`: what the bill of materials may say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Sbom {
    /// How many files may belong to nobody: no package, no entry of the recipe, no named effect.
    pub unowned_files: u32,
}

impl Sbom {
    // Left out when it says nothing, so that recipes without it keep their digest and their lock.
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
