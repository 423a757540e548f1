//! The tables and keys of a recipe.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::promote::Promote;
use super::{Format, Hygiene, Update};
use crate::Digest;
use crate::plan::TestPlan;

/// A whole recipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Recipe {
    /// Name of the recipe and of its releases: `[a-z0-9][a-z0-9-]*`, at most 32 bytes.
    pub name: String,
    /// Version of the release, SemVer.
    pub version: String,
    /// One line about it.
    #[serde(default)]
    pub summary: String,
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

    /// The files that the recipe adds: its `[[file]]` tables, and the keyring of `[update]`.
    pub fn all_files(&self) -> impl Iterator<Item = Cow<'_, FileEntry>> {
        let keyring = self.update.as_ref().and_then(Update::keyring_file);
        let files = self.files.iter().map(Cow::Borrowed);
        files.chain(keyring.map(Cow::Owned))
    }
}

/// Architecture of the target, in Debian's words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// `[debian]`: packages and where they come from. Never a mirror: that is configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Debian {
    /// Suite, such as `trixie`; its `-updates` and `-security` suites are used with it.
    pub suite: String,
    /// All suites to use, instead of `suite` and its two companions. A suite whose name ends in
    /// `-security` lies under the archive `debian-security`, all others under `debian`.
    #[serde(default)]
    pub suites: Option<Vec<String>>,
    /// Components.
    #[serde(default = "main_component")]
    pub components: Vec<String>,
    /// Packages asked for: `name`, `name=version` or `name:arch`.
    pub packages: Vec<String>,
    /// True to add every package marked Essential.
    #[serde(default)]
    pub essential: bool,
    /// True to follow Recommends too.
    #[serde(default)]
    pub recommends: bool,
    /// Packages taken as present though they are not: dependencies on them are met by nothing.
    #[serde(default, rename = "assume")]
    pub assumed: Vec<Assumed>,
    /// What happens with the packages' own scripts.
    #[serde(default)]
    pub scripts: Scripts,
    /// Scripts that may go uncovered.
    #[serde(default, rename = "waive")]
    pub waived: Vec<Waive>,
}

impl Debian {
    /// The suites to use, in order: `suites`, or `suite` with its companions.
    #[must_use]
    pub fn suites(&self) -> Vec<String> {
        self.suites.clone().unwrap_or_else(|| {
            let suite = &self.suite;
            vec![
                suite.clone(),
                format!("{suite}-updates"),
                format!("{suite}-security"),
            ]
        })
    }
}

fn main_component() -> Vec<String> {
    vec!["main".to_owned()]
}

/// `[[debian.assume]]`: a dependency that the image knowingly does without.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Assumed {
    /// Name of a real or virtual package.
    pub package: String,
    /// Why the image works without it.
    pub reason: String,
}

/// What happens with the packages' own scripts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scripts {
    /// None runs; known effects are done in process.
    #[default]
    Builtin,
}

/// `[[debian.waive]]`: a script that is neither run nor covered, knowingly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Waive {
    /// Package name.
    pub package: String,
    /// `preinst`, `postinst`, `triggers` ...
    pub script: String,
    /// Why its effects are not needed.
    pub reason: String,
}

/// `[kernel]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
}

/// Which modules the root file system holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModuleWord {
    /// Every module of the kernel package.
    All,
    /// No module.
    None,
}

/// `[boot]`: where stub and loader come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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

/// Permission bits, written as an octal string (`"0755"`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mode(pub u16);

impl TryFrom<String> for Mode {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        u16::from_str_radix(&text, 8)
            .ok()
            .filter(|mode| *mode <= 0o7777)
            .map(Self)
            .ok_or_else(|| format!("`{text}` is not a mode; write it in octal, as \"0644\""))
    }
}

impl From<Mode> for String {
    fn from(mode: Mode) -> Self {
        format!("{:04o}", mode.0)
    }
}

/// `[[file]]`: one file to add; replaces what a package put there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FileEntry {
    /// Absolute path in the image.
    pub path: String,
    /// The content itself; either this or `source`.
    #[serde(default)]
    pub content: Option<String>,
    /// A file beside the recipe, relative to its folder; either this or `content`.
    #[serde(default)]
    pub source: Option<String>,
    /// Permissions.
    #[serde(default = "file_mode")]
    pub mode: Mode,
    /// Owner, by name or number.
    #[serde(default = "root_name")]
    pub owner: String,
    /// Group, by name or number.
    #[serde(default = "root_name")]
    pub group: String,
}

/// Where the bytes of a [`FileEntry`] are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSource<'a> {
    /// In the recipe.
    Content(&'a str),
    /// In a file beside it.
    Local(&'a str),
}

impl FileEntry {
    /// A file of root's at `path` that everybody may read, with the bytes of the local file
    /// `source`.
    #[must_use]
    pub fn local(path: &str, source: String) -> Self {
        Self {
            path: path.to_owned(),
            content: None,
            source: Some(source),
            mode: file_mode(),
            owner: root_name(),
            group: root_name(),
        }
    }

    /// Where the bytes are; parsing has made sure that there is exactly one place.
    #[must_use]
    pub fn source(&self) -> FileSource<'_> {
        match (&self.content, &self.source) {
            (_, Some(source)) => FileSource::Local(source),
            (content, None) => FileSource::Content(content.as_deref().unwrap_or_default()),
        }
    }
}

fn file_mode() -> Mode {
    Mode(0o644)
}

fn directory_mode() -> Mode {
    Mode(0o755)
}

fn root_name() -> String {
    "root".to_owned()
}

/// `[[directory]]`: one directory to add.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Directory {
    /// Absolute path in the image.
    pub path: String,
    /// Permissions.
    #[serde(default = "directory_mode")]
    pub mode: Mode,
    /// Owner, by name or number.
    #[serde(default = "root_name")]
    pub owner: String,
    /// Group, by name or number.
    #[serde(default = "root_name")]
    pub group: String,
}

/// `[[link]]`: one symbolic link to add; replaces what a package put there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Link {
    /// Absolute path in the image.
    pub path: String,
    /// Target, as written into the link.
    pub target: String,
}

/// `[[group]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Group {
    /// Name.
    pub name: String,
    /// Number; the next free system number when not given.
    #[serde(default)]
    pub gid: Option<u32>,
}

/// `[[user]]`: an account with a locked password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct User {
    /// Name.
    pub name: String,
    /// Number; the next free system number when not given.
    #[serde(default)]
    pub uid: Option<u32>,
    /// Primary group, by name; a group of the user's own name when not given.
    #[serde(default)]
    pub group: Option<String>,
    /// More groups, by name.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Home directory.
    #[serde(default = "no_home")]
    pub home: String,
    /// Login shell.
    #[serde(default = "no_login")]
    pub shell: String,
    /// Comment field.
    #[serde(default)]
    pub comment: String,
}

fn no_home() -> String {
    "/nonexistent".to_owned()
}

fn no_login() -> String {
    "/usr/sbin/nologin".to_owned()
}

/// `[services]`: units, by full name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Services {
    /// Enabled whatever the presets say.
    pub enable: Vec<String>,
    /// Not enabled whatever the presets say.
    pub disable: Vec<String>,
    /// Linked to `/dev/null`.
    pub mask: Vec<String>,
    /// The target to boot to.
    pub default_target: Option<String>,
}

/// `[system]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct System {
    /// Host name; the recipe's name when not given.
    pub host_name: Option<String>,
}

/// `[root]`: the root file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Root {
    /// File system.
    pub format: RootFormat,
    /// Compression.
    pub compression: Compression,
    /// Compression level of the algorithm (zstd 1 to 22, LZ4HC 1 to 12); a good one when not given.
    pub level: Option<u32>,
    /// Paths left out, as globs: `*` within a name, `**` across names, `?`, `[a-z]`, `{a,b}`.
    pub exclude: Vec<String>,
}

impl Default for Root {
    fn default() -> Self {
        Self {
            format: RootFormat::Erofs,
            compression: Compression::Zstd,
            level: None,
            exclude: Vec::new(),
        }
    }
}

/// File system of the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RootFormat {
    /// EROFS.
    Erofs,
    /// SquashFS.
    Squashfs,
}

/// Compression of the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compression {
    /// None (EROFS only).
    None,
    /// LZ4, high compression (EROFS only).
    Lz4hc,
    /// Zstandard.
    Zstd,
}

/// `[sbom]`: what the bill of materials may say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// `[disk]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
            tries: None,
            health: Vec::new(),
            health_seconds: None,
        }
    }
}
