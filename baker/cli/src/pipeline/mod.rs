//! The only place where stages meet.
//!
//! Each stage takes and gives owned values; what flows from one to the next can be read here from
//! top to bottom. Work happens in a hidden folder beside the result, and the last step is a rename.

mod adopt;
mod artefact;
pub mod attended;
mod bake;
mod boot_keys;
mod bundle;
mod cache;
mod catalogue;
mod drill;
mod foreign;
mod formats;
mod host;
mod hygiene;
mod luggage;
mod materials;
mod neighbours;
mod netboot;
pub mod openpgp;
mod pins;
mod reads;
mod rebuild;
mod release;
mod report;
mod sandbox;
mod secure_boot;
mod shares;
mod smoke;
pub mod sysupdate;
mod upgrade;

use std::path::{Path, PathBuf};

use baker_model::recipe::{Format, Recipe};

use crate::exit::{Exit, Failure};

pub use adopt::Adopted;
pub use artefact::Artefact;
pub use bake::{BakeRequest, Kept, bake_draft, refuse_draft, shell};
pub use boot_keys::{BootKeys, NewKeys};
pub use bundle::{BundleRequest, bundle, unbundle};
pub use cache::Cache;
pub use catalogue::{
    channel_failure, now, open_target, say_failure, settle, target_failure, verified,
};
pub use drill::{DrillRequest, Extent, drill};
pub use foreign::{Foreign, Named, read_plans};
pub use host::{Host, architecture};
pub use pins::account;
pub use reads::reads;
pub use rebuild::{Missing, RebuildReport, RebuildRequest, rebuild};
pub use release::{Ending, ReleaseRequest, publish, refuse_existing, release, sign_failure};
pub use report::{Copies, write_reports};
pub use secure_boot::check_boot_signatures;
pub use smoke::{Booted, Result as TestResult, answer_tests, test, test_foreign, today};
pub use upgrade::upgrade;

/// Files of a release that the pipeline itself names.
#[derive(Debug, Clone)]
pub struct Names {
    /// The folder: `<name>-<version>`.
    pub folder: String,
    /// The raw disk.
    pub disk: String,
    /// The unified kernel image.
    pub uki: String,
    /// The kernel for netboot.
    pub kernel: String,
    /// The unified kernel image for netboot.
    pub netboot_uki: String,
    /// What all of these begin with.
    stem: String,
    /// The bill of materials, SPDX.
    pub spdx: String,
    /// The bill of materials, `CycloneDX`.
    pub cyclonedx: String,
    /// What packages' scripts did.
    pub scripts: String,
}

impl Names {
    /// The names of a recipe's release.
    pub fn of(recipe: &Recipe) -> Self {
        let (name, version) = (&recipe.name, &recipe.version);
        let stem = format!("{name}_{version}");
        Self {
            folder: format!("{name}-{version}"),
            disk: format!("{stem}{}", Format::Raw.ending()),
            uki: format!("{stem}.efi"),
            kernel: format!("{stem}.vmlinuz"),
            netboot_uki: format!("{stem}.netboot.efi"),
            spdx: format!("{stem}.spdx.json"),
            cyclonedx: format!("{stem}.cdx.json"),
            scripts: format!("{stem}.scripts.json"),
            stem,
        }
    }

    /// The file of disk or root in one form.
    pub fn file(&self, format: Format) -> String {
        format!("{}{}", self.stem, format.ending())
    }
}

/// Folder of the evidence inside a release.
pub const EVIDENCE: &str = "evidence";

/// The recipe as built, inside a release.
pub const RECIPE: &str = "recipe.toml";

/// The lock as built, inside a release.
pub const LOCK: &str = "recipe.lock";

/// A temporary folder cannot be made or written to.
fn workdir_failure(error: std::io::Error) -> Failure {
    Failure::new(Exit::Internal, error)
        .context("cannot work in a temporary folder")
        .help("make room, or name another folder in TMPDIR")
}

/// Where the evidence of a release's tests is kept outside of the release.
pub fn evidence_folder(evidence: &Path, release: &str) -> PathBuf {
    evidence.join(release)
}
