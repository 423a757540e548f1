//! The files back out of a `CycloneDX` document that baker wrote.

use baker_model::Digest;

use super::cyclonedx::{AUTHENTICODE, Component, Document, FILE, KIND, OWNER, PLACE, SIZE, TARGET};
use crate::inventory::{Owner, OwnerError, Place};

/// One file by a bill of materials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it lies.
    pub place: Place,
    /// Its path there.
    pub path: String,
    /// Who answers for it.
    pub owner: Owner,
    /// `file`, `link`, `directory` or `special`.
    pub kind: String,
    /// SHA-256 of a file.
    pub sha256: Option<Digest>,
    /// Bytes of a file.
    pub size: Option<u64>,
    /// Target of a link, number of a device.
    pub target: Option<String>,
    /// Authenticode digest of a UEFI program.
    pub authenticode: Option<Digest>,
}

/// The bytes are no bill of materials that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Not the JSON that a bill of materials is.
    #[error("cannot parse the bill of materials")]
    Syntax(#[source] serde_json::Error),
    /// Another format or version.
    #[error("the bill of materials is {format} {version}, not CycloneDX 1.6")]
    Version {
        /// The format found.
        format: String,
        /// The version found.
        version: String,
    },
    /// A file without what baker writes of it.
    #[error("the bill of materials does not say {what} of {path}")]
    Lacking {
        /// The file.
        path: String,
        /// What is missing, or cannot be read.
        what: &'static str,
    },
    /// An owner that nobody knows.
    #[error("the bill of materials names no owner of {path}")]
    Owner {
        /// The file.
        path: String,
        /// What is written instead.
        #[source]
        source: OwnerError,
    },
}

/// Takes the files out of the bytes of a document, in the order in which they stand there.
///
/// # Errors
/// See [`ReadError`].
pub fn read(bytes: &[u8]) -> Result<Vec<Record>, ReadError> {
    let document: Document = serde_json::from_slice(bytes).map_err(ReadError::Syntax)?;
    if (document.bom_format.as_str(), document.spec_version.as_str()) != ("CycloneDX", "1.6") {
        return Err(ReadError::Version {
            format: document.bom_format,
            version: document.spec_version,
        });
    }
    let whole = [document.metadata.component].into_iter();
    whole
        .chain(document.components)
        .flat_map(|component| component.components)
        .filter(|component| component.kind == FILE)
        .map(record)
        .collect()
}

fn record(component: Component) -> Result<Record, ReadError> {
    let path = component.name;
    let property = |name: &str| {
        let found = component
            .properties
            .iter()
            .find(|property| property.name == name);
        found.map(|property| property.value.as_str())
    };
    let lacking = |what| ReadError::Lacking {
        path: path.clone(),
        what,
    };
    let digest = |text: &str| text.parse::<Digest>();
    let owner = property(OWNER).ok_or_else(|| lacking("the owner"))?;
    let hash = component.hashes.iter().find(|hash| hash.alg == "SHA-256");
    let hash = hash.map(|hash| digest(&hash.content)).transpose();
    let size = property(SIZE).map(str::parse::<u64>).transpose();
    let authenticode = property(AUTHENTICODE).map(digest).transpose();
    let place = property(PLACE).and_then(Place::from_name);
    Ok(Record {
        owner: owner.parse().map_err(|source| ReadError::Owner {
            path: path.clone(),
            source,
        })?,
        place: place.ok_or_else(|| lacking("the place"))?,
        kind: property(KIND)
            .ok_or_else(|| lacking("the kind"))?
            .to_owned(),
        sha256: hash.map_err(|_| lacking("the digest"))?,
        size: size.map_err(|_| lacking("the size"))?,
        target: property(TARGET).map(str::to_owned),
        authenticode: authenticode.map_err(|_| lacking("the Authenticode digest"))?,
        path,
    })
}
