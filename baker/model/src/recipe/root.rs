//! `[root]`: the root file system.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[root]`: the root file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
    /// True when programs may write to `/etc`: what they write lies on `/var` and lives as long as
    /// that does. Units are read from the image all the same.
    #[serde(skip_serializing_if = "is_false")]
    pub etc_overlay: bool,
}

// Left out when false, so that recipes without it keep their digest and their lock.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands out references"
)]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

impl Default for Root {
    fn default() -> Self {
        Self {
            format: RootFormat::Erofs,
            compression: Compression::Zstd,
            level: None,
            exclude: Vec::new(),
            etc_overlay: false,
        }
    }
}

/// File system of the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RootFormat {
    /// EROFS.
    Erofs,
    /// SquashFS.
    Squashfs,
}

/// Compression of the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Compression {
    /// None (EROFS only).
    None,
    /// LZ4, high compression (EROFS only).
    Lz4hc,
    /// Zstandard.
    Zstd,
}
