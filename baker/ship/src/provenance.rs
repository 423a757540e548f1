//! Where a release comes from, as an in-toto statement with SLSA provenance
//! (<https://slsa.dev/spec/v1.0/provenance>).
//!
//! The statement follows from the manifest and the lock that the manifest names by digest, and
//! from nothing else: signing writes it, verification makes it again and compares. No host, no
//! mirror, no user and no clock is in it; the same bake gives the same statement anywhere.
//!
//! Extensions stand as annotations of resources and in `internalParameters`, both free by the
//! specifications. A manifest that names no stages is from before there was provenance, and has
//! none.

use std::collections::BTreeMap;
use std::path::Path;

use baker_model::lock::{ArchiveLock, PackageLock};
use baker_model::manifest::FileRole;
use baker_model::{Digest, Lock, Manifest};
use serde::{Deserialize, Serialize};

use crate::atomic;
use crate::dsse::{Answer, Envelope, IN_TOTO};
use crate::names::{self, PROVENANCE};
use crate::report::{Problem, chain};
use crate::statement::{Resource, Statement};
use crate::trust::Trust;

/// The largest lock that is read, bytes.
const LOCK_LIMIT: u64 = 64 << 20;

/// The type of the predicate.
pub const PROVENANCE_TYPE: &str = "https://slsa.dev/provenance/v1";

/// How a release is built: `baker bake` with the recipe and lock among the dependencies.
pub const BUILD_TYPE: &str = "urn:baker:bake:1";

/// Who builds: baker on a host that nobody vouches for. Whoever runs it on one that somebody does
/// can say so by the key that signs.
pub const BUILDER: &str = "urn:baker:builder:1";

/// The guest program, by the name that materials and programs have for it.
const GUEST: &str = "baker-guest";

/// The predicate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Provenance {
    /// What was built from what.
    pub build_definition: BuildDefinition,
    /// By whom.
    pub run_details: RunDetails,
}

/// What was built from what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildDefinition {
    /// [`BUILD_TYPE`].
    pub build_type: String,
    /// What a person chose.
    pub external_parameters: ExternalParameters,
    /// What followed from it.
    pub internal_parameters: InternalParameters,
    /// Everything that went in.
    pub resolved_dependencies: Vec<Material>,
}

/// What a person chose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExternalParameters {
    /// Recipe name.
    pub name: String,
    /// Release version.
    pub version: String,
    /// Architecture in Debian's words.
    pub architecture: String,
    /// Digest of the recipe's meaning.
    pub recipe: Digest,
    /// Digest of the lock's meaning.
    pub lock: Digest,
    /// True when boot programs were signed for Secure Boot.
    pub secure_boot: bool,
    /// Commit of the work tree that the recipe lay in; none outside of git.
    pub source: Option<SourceParameter>,
}

/// Commit of a work tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceParameter {
    /// Commit id, hex.
    pub commit: String,
    /// True when the recipe's folder had changes that are not in the commit.
    pub dirty: bool,
}

/// What followed from recipe and lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InternalParameters {
    /// The time that the image claims, seconds since 1970-01-01 UTC.
    pub epoch: i64,
    /// The stages that ran, in the order in which data flows.
    pub stages: Vec<String>,
    /// dm-verity root hash.
    pub root_hash: Digest,
    /// The kernel command line.
    pub command_line: String,
}

/// Something that went in (in-toto `ResourceDescriptor`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Material {
    /// Its name: a path below the archive, or in the recipe's folder.
    pub name: String,
    /// What it is, without saying where to get it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// Hexadecimal digests by algorithm.
    pub digest: BTreeMap<String, String>,
    /// More to know.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// By whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunDetails {
    /// The builder.
    pub builder: Builder,
    /// What the run left beside the release's files: evidence of tests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub byproducts: Vec<Resource>,
}

/// The builder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Builder {
    /// [`BUILDER`].
    pub id: String,
    /// Versions by component.
    pub version: BTreeMap<String, String>,
    /// The programs: baker and the guest inside it.
    pub builder_dependencies: Vec<Resource>,
}

/// True when a release with this manifest has provenance.
#[must_use]
pub fn is_told(manifest: &Manifest) -> bool {
    !manifest.stages.is_empty()
}

/// What a release says of where it comes from. `lock` must be the lock that the manifest names.
#[must_use]
pub fn statement(manifest: &Manifest, lock: &Lock) -> Statement<Provenance> {
    let of_build = |role| !matches!(role, FileRole::Recipe | FileRole::Lock | FileRole::Evidence);
    let files = |wanted: &dyn Fn(FileRole) -> bool| -> Vec<Resource> {
        let files = manifest.files.iter().filter(|file| wanted(file.role));
        files.map(Resource::of_file).collect()
    };
    let source = manifest.source.as_ref().map(|source| SourceParameter {
        commit: source.commit.clone(),
        dirty: source.dirty,
    });
    let definition = BuildDefinition {
        build_type: BUILD_TYPE.to_owned(),
        external_parameters: ExternalParameters {
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            architecture: manifest.architecture.clone(),
            recipe: manifest.recipe,
            lock: manifest.lock,
            secure_boot: manifest.secure_boot.is_some(),
            source,
        },
        internal_parameters: InternalParameters {
            epoch: manifest.epoch,
            stages: manifest.stages.clone(),
            root_hash: manifest.root_hash,
            command_line: manifest.command_line.clone(),
        },
        resolved_dependencies: materials(manifest, lock),
    };
    let programs = [
        ("baker", manifest.baker.program),
        (GUEST, Some(manifest.baker.guest)),
    ];
    let programs = programs
        .into_iter()
        .filter_map(|(name, digest)| Some(Resource::new(name, digest?)));
    let builder = Builder {
        id: BUILDER.to_owned(),
        version: BTreeMap::from([("baker".to_owned(), manifest.baker.version.clone())]),
        builder_dependencies: programs.collect(),
    };
    let predicate = Provenance {
        build_definition: definition,
        run_details: RunDetails {
            builder,
            byproducts: files(&|role| role == FileRole::Evidence),
        },
    };
    Statement::new(files(&of_build), PROVENANCE_TYPE, predicate)
}

/// The statement of a release, not yet signed.
pub(crate) fn envelope(manifest: &Manifest, lock: &Lock) -> Envelope {
    Envelope::new(IN_TOTO, statement(manifest, lock).to_bytes())
}

/// Everything that went in, each with its digest.
fn materials(manifest: &Manifest, lock: &Lock) -> Vec<Material> {
    let source = manifest.source.iter().map(|source| Material {
        name: "source".to_owned(),
        uri: None,
        digest: BTreeMap::from([("gitCommit".to_owned(), source.commit.clone())]),
        annotations: annotations([("dirty", source.dirty.to_string())]),
    });
    let of_roles = |roles: &'static [FileRole]| {
        let files = manifest.files.iter();
        files.filter(move |file| roles.contains(&file.role))
    };
    let texts = of_roles(&[FileRole::Recipe, FileRole::Lock])
        .map(|file| material(&file.name, None, file.sha256, []));
    let local = lock.files.iter().map(|file| {
        let size = ("size", file.size.to_string());
        material(
            &file.path,
            None,
            file.sha256,
            [("kind", "local-file".to_owned()), size],
        )
    });
    let archives = lock.archives.iter().flat_map(of_archive);
    let packages = lock.all_packages().map(of_package);
    let guest = material(
        GUEST,
        None,
        lock.guest.sha256,
        [("kind", "guest".to_owned())],
    );
    // What boot programs are signed with is chosen where the bake runs, and gets onto the disk.
    let certificates = of_roles(&[FileRole::Certificate]).map(|file| {
        let kind = ("kind", "certificate".to_owned());
        material(&file.name, None, file.sha256, [kind])
    });
    source
        .chain(texts)
        .chain(local)
        .chain(archives)
        .chain(packages)
        .chain([guest])
        .chain(certificates)
        .collect()
}

/// The signed list of a suite, and the indexes that it vouches for.
fn of_archive(archive: &ArchiveLock) -> Vec<Material> {
    let folder = format!("{}/dists/{}", archive.archive, archive.suite);
    let signed = [
        ("kind", "archive".to_owned()),
        ("signed-by", archive.signed_by.join(",")),
        ("date", archive.date.to_string()),
    ];
    let release = material(
        &format!("{folder}/InRelease"),
        None,
        archive.inrelease,
        signed,
    );
    let indexes = archive.indexes.iter().map(|index| {
        let size = ("size", index.size.to_string());
        let name = format!("{folder}/{}", index.path);
        material(
            &name,
            None,
            index.sha256,
            [("kind", "index".to_owned()), size],
        )
    });
    [release].into_iter().chain(indexes).collect()
}

fn of_package(package: &PackageLock) -> Material {
    let role = package.role.name();
    let uri = format!(
        "pkg:deb/debian/{}@{}?arch={}",
        escaped(&package.name),
        escaped(&package.version),
        package.architecture
    );
    let more = [
        ("kind", "package".to_owned()),
        ("role", role.to_owned()),
        ("size", package.size.to_string()),
    ];
    let name = format!("{}/{}", package.archive, package.path);
    material(&name, Some(uri), package.sha256, more)
}

fn material<const N: usize>(
    name: &str,
    uri: Option<String>,
    sha256: Digest,
    more: [(&str, String); N],
) -> Material {
    Material {
        name: name.to_owned(),
        uri,
        digest: BTreeMap::from([("sha256".to_owned(), sha256.to_string())]),
        annotations: annotations(more),
    }
}

fn annotations<const N: usize>(rows: [(&str, String); N]) -> BTreeMap<String, String> {
    rows.into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

/// Names and versions of packages hold no other character that a package URL would read.
fn escaped(text: &str) -> String {
    text.replace('%', "%25").replace('+', "%2B")
}

/// The first thing that two statements say differently.
fn difference(expected: &Statement<Provenance>, found: &Statement<Provenance>) -> &'static str {
    let (was, is) = (&expected.predicate, &found.predicate);
    let (first, second) = (&was.build_definition, &is.build_definition);
    if expected.subject != found.subject {
        "set of files"
    } else if expected.kind != found.kind || expected.predicate_type != found.predicate_type {
        "type"
    } else if first.external_parameters.source != second.external_parameters.source {
        "source"
    } else if first.resolved_dependencies != second.resolved_dependencies {
        "set of inputs"
    } else if was.run_details != is.run_details {
        "builder"
    } else {
        "build"
    }
}

/// The lock of the release in `folder`, checked against its manifest.
///
/// # Errors
/// Why it cannot be used.
pub(crate) fn lock(folder: &Path, manifest: &Manifest) -> Result<Lock, Problem> {
    let unusable = |cause: String| bad(format!("there is no usable lock beside it: {cause}"));
    let file = manifest.file(FileRole::Lock);
    let file = file.ok_or_else(|| unusable("the manifest names none".to_owned()))?;
    if let Some(why) = names::objection_to(&file.name) {
        return Err(unusable(why.to_owned()));
    }
    let opened = atomic::open_regular(&folder.join(&file.name));
    let bytes = opened.and_then(|file| atomic::read_limited(&file, LOCK_LIMIT));
    let bytes = bytes.map_err(|error| unusable(error.to_string()))?;
    let lock = Lock::parse(&String::from_utf8_lossy(&bytes));
    let lock = lock.map_err(|error| unusable(chain(&error)))?;
    if lock.digest() != manifest.lock {
        return Err(unusable("it is another than the manifest names".to_owned()));
    }
    Ok(lock)
}

/// Checks the bytes of the statement's file against manifest, lock and whom we trust.
pub(crate) fn check(
    bytes: &[u8],
    manifest: &Manifest,
    lock: &Lock,
    trust: &Trust,
    problems: &mut Vec<Problem>,
) {
    let envelope = match Envelope::parse(bytes) {
        Ok(envelope) => envelope,
        Err(error) => return problems.push(bad(chain(&error))),
    };
    if envelope.to_bytes() != bytes {
        let cause = "it is not written as baker writes it; the file was changed";
        problems.push(bad(cause.to_owned()));
    }
    check_signers(&envelope, trust, problems);
    if envelope.payload_type() != IN_TOTO {
        let kind = envelope.payload_type();
        problems.push(bad(format!("its payload is of type `{kind}`")));
    }
    let expected = statement(manifest, lock);
    if envelope.payload() == expected.to_bytes() {
        return;
    }
    match serde_json::from_slice(envelope.payload()) {
        Ok(found) => problems.push(Problem::OtherStatement {
            file: PROVENANCE,
            what: difference(&expected, &found),
        }),
        Err(error) => problems.push(bad(chain(&error))),
    }
}

fn check_signers(envelope: &Envelope, trust: &Trust, problems: &mut Vec<Problem>) {
    let (mut good, mut unknown, mut forged) = (0, Vec::new(), false);
    for answer in envelope.answers(trust) {
        match answer {
            Answer::Good { named: true, .. } => good += 1,
            Answer::Good { signer, .. } => {
                problems.push(bad(format!(
                    "a signature of `{}` names another key",
                    signer.name
                )));
            }
            Answer::Forged(signer) => {
                forged = true;
                problems.push(Problem::ForgedStatement {
                    file: PROVENANCE,
                    name: signer.name,
                    key_id: signer.key_id,
                });
            }
            Answer::Unknown(key_id) => unknown.push(key_id),
        }
    }
    if good == 0 && !forged && !trust.is_empty() {
        problems.push(Problem::StatementNotTrusted {
            file: PROVENANCE,
            key_ids: unknown,
        });
    }
}

fn bad(cause: String) -> Problem {
    Problem::BadStatement {
        file: PROVENANCE,
        cause,
    }
}
