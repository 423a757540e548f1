//! The only way out: keys, signatures, verification and publishing of releases.
//!
//! Takes a staged folder and its manifest, gives a signed release in a folder of releases; takes a
//! release, gives everything that is wrong with it; takes both to a registry or a bucket and back.
//! Never builds, never boots, never asks a person for anything; verifying opens no connection.
//!
//! A release is a folder:
//!
//! ```text
//! minimal-1.0.0/
//!   manifest.json        names every other file by size and SHA-256 (baker_model::Manifest)
//!   manifest.json.sig    signatures over the bytes of manifest.json (see [`envelope`])
//!   SHA256SUMS           the same digests for `sha256sum -c`
//!   test-result.intoto.json   what the tests said: an in-toto statement (see [`test_result`])
//!                        in a DSSE envelope (see [`dsse`]), signed by the same keys
//!   provenance.intoto.json    where it comes from: SLSA provenance (see [`provenance`]), likewise
//!   disk.raw ...         the files that the manifest names
//! ```
//!
//! What may happen to a release is in the types: a [`Draft`] can be signed and not published, a
//! [`Signed`] can be published and not changed, and a folder is [`Verified`] by a good report only.
//! There is no other way into a target.
//!
//! Anyone can check a release without baker:
//!
//! ```text
//! jq -r '.signatures[0].signature' manifest.json.sig | base64 -d > /tmp/signature
//! openssl pkeyutl -verify -pubin -inkey release.pub -rawin -in manifest.json -sigfile /tmp/signature
//! sha256sum --check --strict SHA256SUMS
//! ```

pub mod algorithm;
mod atomic;
pub mod cache;
pub mod channel;
mod claims;
pub mod dsse;
pub mod envelope;
mod folder;
pub mod hook;
pub mod key;
pub mod key_source;
mod lists;
mod names;
pub mod pem;
pub mod promote;
pub mod provenance;
pub mod public;
pub mod publish;
pub mod pull;
pub mod report;
pub mod request;
pub mod said;
mod secret;
pub mod sign;
pub mod signer;
pub mod statement;
mod statements;
mod sums;
pub mod target;
pub mod test_result;
pub mod token;
pub mod trust;
pub mod verify;
pub mod vsa;

#[cfg(test)]
mod tests;

pub use algorithm::Algorithm;
pub use folder::Watch;
pub use key::{Key, KeyError, Passphrase};
pub use key_source::{KeySource, KeySourceError, Secrets};
pub use names::{MANIFEST, PROVENANCE, SIGNATURES, SUMS, TEST_RESULT, release_folder_name};
pub use public::{PublicKey, PublicKeyError, Purpose};
pub use publish::{Publication, Verified, VerifiedError, publish, refuse_existing, to_folder};
pub use report::{Facts, Problem, Report, Warning};
pub use request::{Reply, Request, RequestError};
pub use sign::{Draft, SignError, Signed};
pub use signer::{Signature, Signer, SigningError};
pub use target::{ChannelId, FolderTarget, Record, ReleaseId, Source, Target, TargetError};
pub use trust::{Trust, TrustError};
pub use verify::{VerifyError, verify};
