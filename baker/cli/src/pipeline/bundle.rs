//! A release with everything that it was made of in one file, for years without a network.
//!
//! A tar archive in one zstd frame; the same release and the same store give the same bytes:
//!
//! ```text
//! bundle.json          format version, the release, and name, size and SHA-256 of all below
//! boot/<digest>        signatures for Secure Boot, by Authenticode digest of their program
//! inputs/<sha256>      packages, signed lists and indexes, local files, as the store has them
//! keys/<name>.pub      the public keys that were given
//! program/baker        the program that made the release, when it is the one that bundles
//! recipe/...           recipe, lock and local files under their own names
//! release/...          the release without what can be made again: manifest, signatures,
//!                      statements, bills of materials, certificates, evidence of tests
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use baker_fetch::{Presence, Store};
use baker_formats::pe::authenticode;
use baker_formats::tar;
use baker_model::manifest::{FileRole, ReleaseFile, SecureBoot};
use baker_model::{Digest, Digester, Lock, Manifest, Silent};
use baker_ship::{Problem, Trust, Warning};
use serde::{Deserialize, Serialize};

use super::{BootKeys, LOCK, RECIPE, secure_boot};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::program;

/// The version of the format that this baker writes.
const BUNDLE_VERSION: u32 = 1;

/// The first member.
const INDEX: &str = "bundle.json";

/// Folder of the signatures for Secure Boot.
const BOOT: &str = "boot";

/// Most of a bundle is packed already; what is not becomes a third of its size at this level.
const LEVEL: i32 = 3;

/// The largest index that is read, bytes.
const INDEX_LIMIT: u64 = 64 << 20;

/// Bytes copied at a time.
const BUFFER: usize = 1 << 20;

/// `bundle.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Index {
    bundle_version: u32,
    /// `<name>-<version>`.
    release: String,
    /// SHA-256 of the release's manifest.
    manifest: Digest,
    /// The other members, sorted by name.
    files: Vec<Member>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Member {
    name: String,
    size: u64,
    sha256: Digest,
}

/// What was bundled.
#[derive(Debug, Serialize)]
pub struct Bundled {
    /// `<name>-<version>`.
    pub release: String,
    /// The file.
    pub path: PathBuf,
    /// Its members.
    pub files: usize,
    /// Their bytes together.
    pub bytes: u64,
    /// False when another baker made the release, so that it could not be added.
    pub program: bool,
}

/// What a bundle is made of.
pub struct BundleRequest<'a> {
    /// Folder of the release.
    pub release: &'a Path,
    /// Folder of its recipe, for local files that the store lacks.
    pub recipe: Option<&'a Path>,
    /// The public keys to add.
    pub trust: &'a Trust,
    /// The file to write.
    pub to: &'a Path,
}

/// Writes a bundle.
pub fn bundle(request: &BundleRequest<'_>, context: &Context) -> Result<Bundled, Failure> {
    let failed = |error: anyhow::Error| {
        context
            .failure(Exit::Publish, error)
            .context(format!("cannot bundle {}", request.release.display()))
    };
    let store = context.store()?;
    write(request, &store, context).map_err(failed)
}

/// Where a member's bytes are.
enum Place {
    File(PathBuf),
    Memory(Vec<u8>),
}

fn write(request: &BundleRequest<'_>, store: &Store, context: &Context) -> anyhow::Result<Bundled> {
    let (manifest, bytes) = manifest(request.release)?;
    let lock = lock(request.release, &manifest)?;
    let mut places = BTreeMap::new();
    add_release(&mut places, request.release, &manifest)?;
    add_inputs(&mut places, &lock, store)?;
    add_local(&mut places, &lock, store, request.recipe)?;
    if manifest.secure_boot.is_some() {
        add_boot(&mut places, request.release, &manifest)?;
    }
    for key in request.trust.keys() {
        let name = format!("keys/{}.pub", key.name());
        places.insert(name, Place::Memory(key.to_text().into_bytes()));
    }
    let is_own = manifest.baker.program.is_some() && manifest.baker.program == program::digest();
    if is_own {
        places.insert(
            "program/baker".to_owned(),
            Place::File(program::PATH.into()),
        );
    }
    let files = places.iter().map(|(name, place)| member(name, place));
    let index = Index {
        bundle_version: BUNDLE_VERSION,
        release: baker_ship::release_folder_name(&manifest),
        manifest: Digest::of(&bytes),
        files: files.collect::<anyhow::Result<_>>()?,
    };
    pack(&index, &places, manifest.epoch, request.to, context)?;
    Ok(Bundled {
        release: index.release,
        path: request.to.to_owned(),
        bytes: index.files.iter().map(|file| file.size).sum(),
        files: index.files.len(),
        program: is_own,
    })
}

fn manifest(release: &Path) -> anyhow::Result<(Manifest, Vec<u8>)> {
    let path = release.join(baker_ship::MANIFEST);
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok((Manifest::parse(&bytes)?, bytes))
}

fn lock(release: &Path, manifest: &Manifest) -> anyhow::Result<Lock> {
    let path = release.join(LOCK);
    let text = fs::read_to_string(&path);
    let lock = Lock::parse(&text.with_context(|| format!("cannot read {}", path.display()))?)?;
    let is_named = lock.digest() == manifest.lock;
    anyhow::ensure!(
        is_named,
        "{} is not the lock that the manifest names",
        path.display()
    );
    Ok(lock)
}

/// True for what a bundle holds as it is; all else is made again.
fn is_kept(file: &ReleaseFile) -> bool {
    use FileRole::{Certificate, Cyclonedx, Evidence, Lock, Recipe, Scripts, Spdx};
    matches!(
        file.role,
        Certificate | Cyclonedx | Evidence | Lock | Recipe | Scripts | Spdx
    )
}

/// The signatures of the boot programs: whoever makes the release again has no key for them.
fn add_boot(
    places: &mut BTreeMap<String, Place>,
    release: &Path,
    manifest: &Manifest,
) -> anyhow::Result<()> {
    let disk = manifest.file(FileRole::Disk).context("it has no disk")?;
    for (path, program) in secure_boot::esp_programs(&release.join(&disk.name))? {
        let table = authenticode::certificate_table(&program)
            .with_context(|| format!("cannot take the signature of {path}"))?;
        let name = format!("{BOOT}/{}", authenticode::digest(&program)?);
        places.insert(name, Place::Memory(table.to_vec()));
    }
    Ok(())
}

/// All of a release that a bake does not make.
fn add_release(
    places: &mut BTreeMap<String, Place>,
    release: &Path,
    manifest: &Manifest,
) -> anyhow::Result<()> {
    let named = manifest
        .files
        .iter()
        .filter(|file| is_kept(file))
        .map(|file| file.name.as_str());
    let signed = [
        baker_ship::MANIFEST,
        baker_ship::SIGNATURES,
        baker_ship::SUMS,
        baker_ship::TEST_RESULT,
        baker_ship::PROVENANCE,
    ];
    let signed = signed
        .into_iter()
        .filter(|name| release.join(name).exists());
    for name in named.chain(signed) {
        let path = release.join(name);
        places.insert(format!("release/{name}"), Place::File(path));
    }
    for name in [RECIPE, LOCK] {
        places.insert(format!("recipe/{name}"), Place::File(release.join(name)));
    }
    Ok(())
}

/// Every package; of the lists that vouch for them those that are stored.
fn add_inputs(
    places: &mut BTreeMap<String, Place>,
    lock: &Lock,
    store: &Store,
) -> anyhow::Result<()> {
    let mut add = |digest: &Digest| {
        places.insert(format!("inputs/{digest}"), Place::File(store.path(digest)));
    };
    for package in lock.all_packages() {
        let presence = store.presence(&package.sha256, package.size)?;
        let is_there = presence == Presence::Present;
        let name = &package.name;
        anyhow::ensure!(
            is_there,
            "the store lacks the package {name}; run: baker fetch RECIPE"
        );
        add(&package.sha256);
    }
    for archive in &lock.archives {
        let indexes = archive.indexes.iter().map(|index| &index.sha256);
        for digest in [&archive.inrelease].into_iter().chain(indexes) {
            if store.path(digest).exists() {
                add(digest);
            }
        }
    }
    Ok(())
}

fn add_local(
    places: &mut BTreeMap<String, Place>,
    lock: &Lock,
    store: &Store,
    recipe: Option<&Path>,
) -> anyhow::Result<()> {
    for file in &lock.files {
        let stored = store.presence(&file.sha256, file.size)? == Presence::Present;
        let place = match recipe {
            _ if stored => store.path(&file.sha256),
            Some(folder) => folder.join(&file.path),
            None => anyhow::bail!(
                "the store lacks the local file {}; name the recipe's folder with --recipe",
                file.path
            ),
        };
        let found = digest(&mut File::open(&place)?)?;
        let is_named = found == (file.sha256, file.size);
        anyhow::ensure!(
            is_named,
            "{} is not the file that was locked",
            place.display()
        );
        places.insert(format!("recipe/{}", file.path), Place::File(place));
    }
    Ok(())
}

fn member(name: &str, place: &Place) -> anyhow::Result<Member> {
    let (sha256, size) = match place {
        Place::Memory(bytes) => (Digest::of(bytes), bytes.len() as u64),
        Place::File(path) => {
            let file = File::open(path);
            let mut file = file.with_context(|| format!("cannot read {}", path.display()))?;
            digest(&mut file)?
        }
    };
    if let Some(expected) = name.strip_prefix("inputs/") {
        let is_whole = sha256.to_string() == expected;
        anyhow::ensure!(is_whole, "the store holds altered bytes as {expected}");
    }
    Ok(Member {
        name: name.to_owned(),
        size,
        sha256,
    })
}

fn digest(reader: &mut dyn Read) -> io::Result<(Digest, u64)> {
    let (mut digester, mut size) = (Digester::new(), 0);
    let mut buffer = vec![0; BUFFER];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok((digester.finish(), size)),
            count => {
                digester.update(&buffer[..count]);
                size += count as u64;
            }
        }
    }
}

/// Writes beside the target and renames: a bundle is there wholly or not at all.
fn pack(
    index: &Index,
    places: &BTreeMap<String, Place>,
    mtime: i64,
    to: &Path,
    context: &Context,
) -> anyhow::Result<()> {
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty());
    let file = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
    let mut out = zstd::Encoder::new(BufWriter::with_capacity(BUFFER, file), LEVEL)?;
    let mut text = serde_json::to_vec_pretty(index)?;
    text.push(b'\n');
    let mut append = |name: &str, size: u64, reader: &mut dyn Read| -> anyhow::Result<()> {
        out.write_all(&tar::encode(&tar::Header::of_file(name, size, mtime)))?;
        let copied = io::copy(&mut reader.take(size), &mut out)?;
        anyhow::ensure!(copied == size, "{name} became shorter while it was read");
        let padding = size.next_multiple_of(tar::BLOCK as u64) - size;
        io::copy(&mut io::repeat(0).take(padding), &mut out)?;
        Ok(())
    };
    append(INDEX, text.len() as u64, &mut text.as_slice())?;
    for member in &index.files {
        anyhow::ensure!(!context.interrupt().is_raised(), "interrupted");
        match places.get(&member.name) {
            Some(Place::Memory(bytes)) => append(&member.name, member.size, &mut bytes.as_slice())?,
            Some(Place::File(path)) => append(&member.name, member.size, &mut File::open(path)?)?,
            None => {}
        }
    }
    out.write_all(&[0; 2 * tar::BLOCK])?;
    let file = out
        .finish()?
        .into_inner()
        .map_err(io::IntoInnerError::into_error)?;
    file.as_file()
        .set_permissions(fs::Permissions::from_mode(0o644))?;
    file.as_file().sync_all()?;
    file.persist(to)?;
    Ok(())
}

/// A bundle unpacked into a folder, every member checked.
pub struct Unbundled {
    /// The folder of the recipe.
    pub recipe: PathBuf,
    /// The manifest of the bundled release.
    pub manifest: Manifest,
    /// What the boot programs were signed with, when they were.
    pub boot_keys: Option<BootKeys>,
}

/// Unpacks a bundle: recipe and release into `folder`, inputs into the store. The release in it
/// must be signed by whom `trust` says: the keys in a bundle vouch for nothing.
pub fn unbundle(
    path: &Path,
    folder: &Path,
    trust: &Trust,
    context: &Context,
) -> Result<Unbundled, Failure> {
    let store = context.store()?;
    let unbundled = unpack(path, folder, &store, context).map_err(|error| {
        context
            .failure(Exit::Verify, error)
            .context(format!("the bundle {} cannot be used", path.display()))
            .help("get the bundle again from whoever keeps it")
    })?;
    check_release(path, folder, &unbundled.manifest, trust, context)?;
    Ok(unbundled)
}

/// Verifies the release, as far as it is in the bundle: all else is made again and compared.
fn check_release(
    path: &Path,
    folder: &Path,
    manifest: &Manifest,
    trust: &Trust,
    context: &Context,
) -> Result<(), Failure> {
    let release = folder.join("release");
    let report = baker_ship::verify(&release, trust, &Silent, context.interrupt())
        .map_err(|error| context.failure(Exit::Verify, error))?;
    let is_left_out = |problem: &Problem| {
        let files = &manifest.files;
        matches!(problem, Problem::Missing { name }
            if files.iter().any(|file| file.name == *name && !is_kept(file)))
    };
    for warning in &report.warnings {
        // The folder is this function's own.
        if !matches!(warning, Warning::Renamed { .. }) {
            context.printer().warn(&warning.to_string());
        }
    }
    let mut problems = report
        .problems
        .iter()
        .filter(|p| !is_left_out(p))
        .peekable();
    if problems.peek().is_none() {
        return Ok(());
    }
    let mut text = format!("the release in {} does not verify:", path.display());
    let mut help = None;
    for problem in problems {
        text.push_str(&format!("\n- {problem}"));
        help = help.or(problem.help());
    }
    Err(Failure::message(Exit::Verify, text)
        .help(help.unwrap_or("get the bundle again from whoever keeps it")))
}

fn unpack(
    path: &Path,
    folder: &Path,
    store: &Store,
    context: &Context,
) -> anyhow::Result<Unbundled> {
    let file = File::open(path)?;
    let mut reader = tar::Reader::new(zstd::Decoder::new(file)?, tar::Limits::default());
    let index = index(&mut reader)?;
    // Members lie in the order of the index, so each is known before a byte of it is read.
    for member in &index {
        anyhow::ensure!(!context.interrupt().is_raised(), "interrupted");
        let name = &member.name;
        let entry = reader.next_entry();
        let entry = entry.with_context(|| format!("`{name}` is damaged, or what is before it"))?;
        let mut entry = entry.with_context(|| format!("`{name}` is missing"))?;
        let is_it = entry.header.path == name.as_bytes() && entry.header.size == member.size;
        anyhow::ensure!(is_it, "`{name}` is not where its index says");
        let read = match name.strip_prefix("inputs/") {
            Some(_) => store.put(&mut entry).map_err(anyhow::Error::from),
            None => keep(&mut entry, folder, name),
        };
        let (sha256, size) = read.with_context(|| format!("`{name}` is damaged"))?;
        let is_named = (sha256, size) == (member.sha256, member.size);
        anyhow::ensure!(is_named, "`{name}` was altered");
    }
    let more = reader.next_entry().context("its end is damaged")?;
    anyhow::ensure!(more.is_none(), "it holds more than its index says");
    let release = folder.join("release");
    let (manifest, _) = manifest(&release)?;
    let boot_keys = match &manifest.secure_boot {
        Some(secure) => Some(boot_keys(folder, &release, secure)?),
        None => None,
    };
    let recipe = folder.join("recipe");
    // The chain that the bundled release's signature stands for: manifest, lock, inputs.
    lock(&recipe, &manifest)?;
    Ok(Unbundled {
        recipe,
        manifest,
        boot_keys,
    })
}

/// Certificates and signatures of the boot programs.
fn boot_keys(folder: &Path, release: &Path, secure: &SecureBoot) -> anyhow::Result<BootKeys> {
    let keys = secure_boot::read_keys(release, secure)?;
    let entries = fs::read_dir(folder.join(BOOT)).context("it has no signatures for boot")?;
    let tables = entries.map(|entry| fs::read(entry?.path()));
    Ok(BootKeys::kept(keys, tables.collect::<io::Result<_>>()?))
}

/// The members that must follow.
fn index<R: Read>(reader: &mut tar::Reader<R>) -> anyhow::Result<Vec<Member>> {
    let mut entry = reader.next_entry()?.context("it is empty")?;
    anyhow::ensure!(entry.header.path == INDEX.as_bytes(), "it has no index");
    let mut bytes = Vec::new();
    entry.by_ref().take(INDEX_LIMIT).read_to_end(&mut bytes)?;
    let index: Index = serde_json::from_slice(&bytes).context("cannot read its index")?;
    let version = index.bundle_version;
    anyhow::ensure!(
        version == BUNDLE_VERSION,
        "it has version {version} of the format"
    );
    for member in &index.files {
        let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\\', '\0']);
        let is_plain = member.name.split('/').all(plain);
        anyhow::ensure!(
            is_plain,
            "`{}` is no name inside a bundle",
            member.name.escape_debug()
        );
    }
    Ok(index.files)
}

/// Writes a member below the folder; its name has been checked.
fn keep(reader: &mut dyn Read, folder: &Path, name: &str) -> anyhow::Result<(Digest, u64)> {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap_or(folder))?;
    let mut file = File::create_new(&path)?;
    io::copy(reader, &mut file)?;
    drop(file);
    Ok(digest(&mut File::open(&path)?)?)
}
