//! `[root]`: the root file system.

use std::ops::RangeInclusive;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::RecipeError;
use super::parse::{find_key, find_value};
use crate::tree::TreePath;

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
    /// Largest compressed cluster of EROFS in bytes, a power of two from 4096 to 1048576: larger
    /// ones pack smaller, smaller ones make reads of a few bytes cheaper; 16384 when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_size: Option<u32>,
    /// Paths left out, as globs: `*` within a name, `**` across names, `?`, `[a-z]`, `{a,b}`.
    pub exclude: Vec<String>,
    /// Files whose data comes first in the image, in this order, so that what a boot reads lies
    /// together (EROFS only); `baker reads` tells them. Those that the image does not have are passed
    /// over.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub first: Vec<String>,
    /// True when programs may write to `/etc`: what they write lies on `/var` and lives as long as
    /// that does. Units are read from the image all the same.
    #[serde(skip_serializing_if = "is_false")]
    pub etc_overlay: bool,
}

/// Bytes that a cluster can have.
const CLUSTER_SIZES: RangeInclusive<u32> = 4096..=1 << 20;

impl Root {
    /// Refuses what the format cannot hold.
    pub(super) fn check(&self, text: &str) -> Result<(), RecipeError> {
        let fail = |key, problem| Err(RecipeError::at(text, find_key(text, key), problem));
        if self.format == RootFormat::Squashfs && self.compression != Compression::Zstd {
            let problem = "squashfs is written with zstd only".to_owned();
            return fail("compression", problem);
        }
        let highest = match self.compression {
            Compression::Zstd => 22,
            Compression::Lz4hc => 12,
            Compression::None => 0,
        };
        if let Some(level) = self.level.filter(|level| !(1..=highest).contains(level)) {
            return fail("level", format!("level {level} is outside 1 to {highest}"));
        }
        self.check_first(text)?;
        let Some(size) = self.cluster_size else {
            return Ok(());
        };
        if self.format == RootFormat::Squashfs || self.compression == Compression::None {
            let problem = "`cluster-size` is about EROFS with compression".to_owned();
            return fail("cluster-size", problem);
        }
        if !size.is_power_of_two() || !CLUSTER_SIZES.contains(&size) {
            let problem = format!("a cluster of {size} bytes is no power of two, 4096 to 1048576");
            return fail("cluster-size", problem);
        }
        Ok(())
    }

    fn check_first(&self, text: &str) -> Result<(), RecipeError> {
        if self.format == RootFormat::Squashfs && !self.first.is_empty() {
            let problem = "`first` is about EROFS".to_owned();
            return Err(RecipeError::at(text, find_key(text, "first"), problem));
        }
        for path in &self.first {
            let problem = match TreePath::new(path) {
                Ok(_) if path.starts_with('/') => continue,
                Ok(_) => format!("`{path}` is no absolute path"),
                Err(error) => error.to_string(),
            };
            return Err(RecipeError::at(text, find_value(text, path), problem));
        }
        Ok(())
    }
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
            cluster_size: None,
            exclude: Vec::new(),
            first: Vec::new(),
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
