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
