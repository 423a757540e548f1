//! The OCI stage: the root as a container image.
//!
//! Takes the archive of the root, which becomes the one layer, and what its tree says; gives one
//! file, an image layout in a tar archive. `podman load`, `skopeo` (as `oci-archive:`) and
//! Docker 25 or newer read it. Never opens the layer: its digests are given.
//!
//! After the OCI image specification 1.1:
//!
//! ```text
//! blobs/sha256/<digest>   configuration, layer, manifest
//! index.json              names the manifest
//! oci-layout
//! ```

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use baker_formats::io::{Slice, Source};
use baker_formats::tar::{Archive, Header, Kind};
use baker_model::recipe::Architecture;
use baker_model::tree::{LastLink, TreePath};
use baker_model::{Digest, Tree};
use serde::Serialize;

use crate::archive::Archived;

/// Bytes gathered before a write.
const BUFFER: usize = 1 << 20;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIGURATION: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// The init of the image, started when it has one.
const INIT: &str = "sbin/init";

/// What tells systemd to shut a container down, as its container interface has it.
const STOP_SIGNAL: &str = "SIGRTMIN+3";

/// What goes into the image.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Name of the recipe.
    pub name: &'a str,
    /// Version of the release.
    pub version: &'a str,
    /// Architecture of the target.
    pub architecture: Architecture,
    /// The time that the image claims, seconds since 1970-01-01 UTC.
    pub epoch: i64,
    /// The root file system, asked for its init only.
    pub tree: &'a Tree,
    /// The archive of the root.
    pub layer: &'a Path,
    /// Its digests.
    pub archived: Archived,
    /// The file to write; must not be there.
    pub out: &'a Path,
}

/// The image cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum OciError {
    /// The layer cannot be opened.
    #[error("cannot read the layer {}", path.display())]
    Layer {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write the OCI image {}", path.display())]
    Write {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Writes the image; gives the bytes of its file.
///
/// # Errors
/// See [`OciError`]. The file is left behind for the caller to remove.
pub fn oci(request: &Request<'_>) -> Result<u64, OciError> {
    let layer = File::open(request.layer).map_err(|source| OciError::Layer {
        path: request.layer.to_owned(),
        source,
    })?;
    let archive = layout(request, &layer);
    let write = || -> io::Result<u64> {
        let mut out = BufWriter::with_capacity(BUFFER, File::create_new(request.out)?);
        io::copy(&mut Slice::new(&archive, 0..archive.size()), &mut out)?;
        out.flush()?;
        Ok(archive.size())
    };
    write().map_err(|source| OciError::Write {
        path: request.out.to_owned(),
        source,
    })
}

/// The image layout, its members sorted by name.
fn layout<'a>(request: &Request<'_>, layer: &'a (impl Source + 'a)) -> Archive<'a> {
    let configuration = bytes(&configuration(request));
    let manifest = Manifest {
        schema_version: 2,
        media_type: MANIFEST,
        config: Descriptor::of(CONFIGURATION, &configuration),
        layers: [Descriptor {
            media_type: LAYER,
            digest: named(request.archived.digest),
            size: request.archived.size,
            annotations: None,
        }],
    };
    let manifest = bytes(&manifest);
    let index = Index {
        schema_version: 2,
        media_type: "application/vnd.oci.image.index.v1+json",
        manifests: [Descriptor {
            annotations: Some(Annotations {
                reference: format!("{}:{}", request.name, request.version),
            }),
            ..Descriptor::of(MANIFEST, &manifest)
        }],
    };
    let mut blobs: Vec<(String, Member<'a>)> = vec![
        blob(Digest::of(&configuration), Member::Text(configuration)),
        blob(Digest::of(&manifest), Member::Text(manifest)),
        blob(
            request.archived.digest,
            Member::Layer(layer, request.archived.size),
        ),
        ("index.json".to_owned(), Member::Text(bytes(&index))),
        (
            "oci-layout".to_owned(),
            Member::Text(br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
        ),
        ("blobs/".to_owned(), Member::Folder),
        ("blobs/sha256/".to_owned(), Member::Folder),
    ];
    blobs.sort_by(|(one, _), (other, _)| one.cmp(other));
    let mut archive = Archive::new();
    for (name, member) in blobs {
        let header = |kind, mode, size| Header {
            path: name.clone().into_bytes(),
            kind,
            mode,
            uid: 0,
            gid: 0,
            mtime: request.epoch,
            xattrs: std::collections::BTreeMap::new(),
            size,
            offset: 0,
        };
        match member {
            Member::Folder => archive.append(&header(Kind::Directory, 0o755, 0), Vec::new()),
            Member::Text(text) => {
                archive.append(&header(Kind::File, 0o644, text.len() as u64), text);
            }
            Member::Layer(layer, size) => {
                let data = Slice::new(layer, 0..size);
                archive.append(&header(Kind::File, 0o644, size), data);
            }
        }
    }
    archive
}

/// What a member of the layout holds.
enum Member<'a> {
    Folder,
    Text(Vec<u8>),
    Layer(&'a dyn Source, u64),
}

fn blob(digest: Digest, member: Member<'_>) -> (String, Member<'_>) {
    (format!("blobs/sha256/{digest}"), member)
}

fn configuration(request: &Request<'_>) -> Configuration {
    let created = time(request.epoch);
    let init = TreePath::new(INIT).ok();
    let init = init.and_then(|path| request.tree.resolve(&path, LastLink::Follow));
    let has_init = init.is_some_and(|path| request.tree.get(&path).is_some());
    Configuration {
        created: created.clone(),
        architecture: request.architecture.name(),
        os: "linux",
        config: Start {
            command: has_init.then(|| vec![format!("/{INIT}")]),
            stop_signal: has_init.then_some(STOP_SIGNAL),
        },
        rootfs: RootFs {
            kind: "layers",
            diff_ids: [named(request.archived.plain)],
        },
        history: [Step {
            created,
            created_by: "baker",
        }],
    }
}

/// RFC 3339, UTC.
fn time(epoch: i64) -> String {
    let seconds = u64::try_from(epoch).unwrap_or(0);
    let day = baker_model::plan::Day::of_unix(seconds);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{day}T{hour:02}:{minute:02}:{second:02}Z")
}

fn named(digest: Digest) -> String {
    format!("sha256:{digest}")
}

fn bytes(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("these hold only plain data")
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    media_type: &'static str,
    config: Descriptor,
    layers: [Descriptor; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u32,
    media_type: &'static str,
    manifests: [Descriptor; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: &'static str,
    digest: String,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<Annotations>,
}

impl Descriptor {
    fn of(media_type: &'static str, bytes: &[u8]) -> Self {
        Self {
            media_type,
            digest: named(Digest::of(bytes)),
            size: bytes.len() as u64,
            annotations: None,
        }
    }
}

#[derive(Serialize)]
struct Annotations {
    #[serde(rename = "org.opencontainers.image.ref.name")]
    reference: String,
}

#[derive(Serialize)]
struct Configuration {
    created: String,
    architecture: &'static str,
    os: &'static str,
    config: Start,
    rootfs: RootFs,
    history: [Step; 1],
}

#[derive(Serialize)]
struct Start {
    #[serde(rename = "Cmd", skip_serializing_if = "Option::is_none")]
    command: Option<Vec<String>>,
    #[serde(rename = "StopSignal", skip_serializing_if = "Option::is_none")]
    stop_signal: Option<&'static str>,
}

#[derive(Serialize)]
struct RootFs {
    #[serde(rename = "type")]
    kind: &'static str,
    diff_ids: [String; 1],
}

#[derive(Serialize)]
struct Step {
    created: String,
    created_by: &'static str,
}

#[cfg(test)]
mod tests;
