//! The forms in which a release holds its disk and its root.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::manifest::FileRole;

/// One form of disk or root (`[disk] formats`). All of them hold the same system.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// The disk's own bytes; every release has it.
    #[default]
    Raw,
    /// QEMU, KVM, OpenStack: compressed.
    Qcow2,
    /// VMware: stream-optimised, compressed.
    Vmdk,
    /// Hyper-V, generation 1: dynamic.
    Vhd,
    /// Azure: fixed.
    VhdFixed,
    /// A disk that is a CD too.
    Iso,
    /// Kernel and initrd that come up without a disk, and both as a UKI: the root is in the initrd.
    Netboot,
    /// The root as a tar archive, gzip.
    Tar,
    /// The root as an OCI image, in a tar archive.
    Oci,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Raw,
        Self::Qcow2,
        Self::Vmdk,
        Self::Vhd,
        Self::VhdFixed,
        Self::Iso,
        Self::Netboot,
        Self::Tar,
        Self::Oci,
    ];

    /// The name as written in a recipe.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vmdk => "vmdk",
            Self::Vhd => "vhd",
            Self::VhdFixed => "vhd-fixed",
            Self::Iso => "iso",
            Self::Netboot => "netboot",
            Self::Tar => "tar",
            Self::Oci => "oci",
        }
    }

    /// What its file's name ends in, behind name and version; of netboot that of the initrd.
    #[must_use]
    pub const fn ending(self) -> &'static str {
        match self {
            Self::Raw => ".raw",
            Self::Qcow2 => ".qcow2",
            Self::Vmdk => ".vmdk",
            Self::Vhd => ".vhd",
            Self::VhdFixed => ".fixed.vhd",
            Self::Iso => ".iso",
            Self::Netboot => ".netboot.initrd",
            Self::Tar => ".tar.gz",
            Self::Oci => ".oci.tar",
        }
    }

    /// What its file is in a manifest.
    #[must_use]
    pub const fn role(self) -> FileRole {
        match self {
            Self::Raw => FileRole::Disk,
            Self::Qcow2 => FileRole::Qcow2,
            Self::Vmdk => FileRole::Vmdk,
            Self::Vhd => FileRole::Vhd,
            Self::VhdFixed => FileRole::VhdFixed,
            Self::Iso => FileRole::Iso,
            Self::Netboot => FileRole::NetbootInitrd,
            Self::Tar => FileRole::RootTar,
            Self::Oci => FileRole::OciImage,
        }
    }

    /// True when a machine can start from it.
    #[must_use]
    pub const fn is_bootable(self) -> bool {
        !matches!(self, Self::Tar | Self::Oci)
    }

    /// Modules of the initrd that find the root in this form, beside those that every form needs.
    #[must_use]
    pub const fn initrd_modules(self) -> &'static [&'static str] {
        match self {
            Self::Iso => &["sr_mod"],
            Self::Netboot => &["loop"],
            _ => &[],
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|format| format.name() == text);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name);
            format!("the formats are: {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_files_and_roles_are_its_own() {
        let mut endings = std::collections::BTreeSet::new();
        for format in Format::ALL {
            let json = serde_json::to_string(&format).unwrap();
            assert_eq!(json, format!("\"{}\"", format.name()));
            assert_eq!(format.name().parse(), Ok(format));
            assert!(endings.insert((format.ending(), format.role())));
        }
        let said = "qcow".parse::<Format>().unwrap_err();
        assert!(said.contains("raw, qcow2, vmdk"), "{said}");
    }
}
