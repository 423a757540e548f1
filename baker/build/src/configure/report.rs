//! What the configure stage says about its own work.

use baker_model::Digest;

/// What was done for which script, and on whose word.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigureReport {
    /// Every script of every package, packages in the order in which they were configured.
    pub scripts: Vec<CoveredScript>,
    /// Units that are masked because a sealed image has no use for them, each with its reason.
    pub masked: Vec<(String, String)>,
    /// Things that do not stop the bake but that a person should know, one line each.
    pub warnings: Vec<String>,
}

/// One script and what covers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoveredScript {
    /// Package name.
    pub package: String,
    /// Name of the script.
    pub script: &'static str,
    /// SHA-256 of the script.
    pub digest: Digest,
    /// What covers it.
    pub coverage: Coverage,
}

/// What covers a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Coverage {
    /// A removal script: nothing is ever removed from an image.
    NeverRuns,
    /// It holds nothing but generated parts whose meaning is known.
    Generated,
    /// An entry of the ledger for exactly these bytes.
    Entry {
        /// What the entry says of it.
        reason: String,
    },
    /// The recipe waives it.
    Waived {
        /// What the recipe says of it.
        reason: String,
    },
}
