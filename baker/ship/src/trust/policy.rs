//! `policy.json` of a trust folder: on what terms its keys are believed.
//!
//! ```json
//! {"threshold": 2, "retired": {"<key id>": "2027-01-31"}}
//! ```
//! It is not signed: whoever can write into the trust folder decides whom to trust anyway.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use baker_model::Digest;
use baker_model::plan::Day;
use serde::Deserialize;

use crate::report::chain;

/// Name of the file.
pub(super) const FILE: &str = "policy.json";

/// The terms.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct Policy {
    /// How many of the keys must sign; one when it is not said.
    pub(super) threshold: Option<NonZeroUsize>,
    /// The last day of releases that a key may have signed, by key id.
    #[serde(deserialize_with = "by_id")]
    pub(super) retired: BTreeMap<Digest, Day>,
}

impl Policy {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| chain(&error))
    }
}

fn by_id<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<Digest, Day>, D::Error> {
    let retired: BTreeMap<String, Day> = Deserialize::deserialize(deserializer)?;
    let parse = |(id, day): (String, Day)| {
        let id = id.parse().map_err(serde::de::Error::custom)?;
        Ok((id, day))
    };
    retired.into_iter().map(parse).collect()
}
