//! What dpkg and the scripts said, as a record.

/// One script that ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran;
/// x
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed;
/// x
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transcript;
