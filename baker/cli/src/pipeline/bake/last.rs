//! The last draft of a recipe, kept with everything that went into it: when nothing of that has
//! changed, it is the draft.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::Context as _;
use baker_build::keep::{Book, Keep, Key, Piece};
use baker_model::{Digest, Event, Manifest};
use nix::errno::Errno;
use nix::unistd::{Whence, lseek};
use serde::{Deserialize, Serialize};

use super::{BakeRequest, Baking};
use crate::pipeline::{hygiene, materials, smoke};
use crate::program;

/// First word of the books' names.
const KIND: &str = "draft";

/// Version of what is kept.
const VERSION: &str = "baker-draft-1";

/// Bytes read, checked and written at a time.
const STEP: u64 = 1 << 20;

/// A draft with more data than this is not kept: writing it twice costs more than it saves.
const LIMIT: u64 = 1 << 30;

/// Everything that decides over a draft, by its name for people.
pub(super) type Inputs = BTreeMap<String, String>;

/// The index of a draft's book.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Draft {
    pub(super) inputs: Inputs,
    manifest: Vec<u8>,
    files: Vec<Stored>,
    /// What was told of it: stage and text.
    warnings: Vec<(String, String)>,
}

/// A file of it.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    name: String,
    size: u64,
    /// Data by offset; the rest are zeros.
    data: Vec<(u64, Piece)>,
}

/// What decides over the draft of `request` in the folder `to`; none when more does than can be
/// named: somebody else signs.
pub(super) fn inputs(request: BakeRequest<'_>, to: Option<&Path>) -> Option<Inputs> {
    let (folder, lock) = (request.folder, request.lock);
    if request.adopted.is_some() || request.boot_keys.is_some_and(|keys| !keys.signs_here()) {
        return None;
    }
    let (program, source) = thread::scope(|scope| {
        let program = scope.spawn(program::digest);
        (super::joined(program), folder.git())
    });
    let mut inputs = Inputs::from([
        ("baker".to_owned(), program?.to_string()),
        (
            "recipe".to_owned(),
            Digest::of(folder.text.as_bytes()).to_string(),
        ),
        ("lock".to_owned(), lock.digest().to_string()),
        ("time of the lock".to_owned(), lock.epoch.to_string()),
    ]);
    let mut add = |name: String, value: String| inputs.insert(name, value);
    for package in lock.all_packages() {
        let name = format!("package {} ({})", package.name, package.architecture);
        add(name, format!("{} {}", package.version, package.sha256));
    }
    for file in &lock.files {
        add(format!("file {}", file.path), file.sha256.to_string());
    }
    if let Some(source) = source {
        let state = if source.dirty { " and changes" } else { "" };
        add(
            "commit of the recipe".to_owned(),
            format!("{}{state}", source.commit),
        );
    }
    let formats = request.formats.unwrap_or(&folder.recipe.disk.formats);
    let formats: Vec<&str> = formats.iter().map(|format| format.name()).collect();
    add("forms of the disk".to_owned(), formats.join(" "));
    if let Some(keys) = request.boot_keys {
        let keys = keys.keys();
        let certificates = [&keys.platform, &keys.exchange, &keys.database];
        let digests = certificates.map(|it| Digest::of(it.der()).to_string());
        add("keys of Secure Boot".to_owned(), digests.join(" "));
    }
    if !folder.recipe.hygiene.waived.is_empty() {
        add("day".to_owned(), format!("{:?}", smoke::today()));
    }
    let size = to.and_then(|to| hygiene::last_size(to, &folder.recipe));
    if let Some(size) = size {
        add("size of the last release".to_owned(), size.to_string());
    }
    Some(inputs)
}

impl Draft {
    /// What the last bake of the recipe left.
    pub(super) fn open(request: BakeRequest<'_>, keep: &Keep) -> Option<Book<Self>> {
        keep.open(KIND, &key(request))
    }

    /// What differs between its inputs and `now`: one line for people each.
    pub(super) fn changes(&self, now: &Inputs) -> Vec<String> {
        let short = |value: &str| value.split(' ').next().unwrap_or_default().to_owned();
        let mut changes = Vec::new();
        for (name, value) in now {
            match self.inputs.get(name) {
                None => changes.push(format!("{name} is new")),
                Some(before) if before != value && name.starts_with("package ") => {
                    changes.push(format!("{name}: {} -> {}", short(before), short(value)));
                }
                Some(before) if before != value => changes.push(format!("{name} changed")),
                Some(_) => {}
            }
        }
        let gone = self.inputs.keys().filter(|name| !now.contains_key(*name));
        changes.extend(gone.map(|name| format!("{name} is gone")));
        changes
    }
}

impl Baking<'_> {
    /// Puts the last draft into `out` again when it has the same inputs, and is whole.
    pub(super) fn last(&self, book: &Book<Draft>, now: &Inputs, out: &Path) -> Option<Manifest> {
        if book.index.inputs != *now {
            return None;
        }
        let manifest = Manifest::parse(&book.index.manifest).ok()?;
        if restore(book, out, self.threads).is_err() {
            // Damaged, or no room: what makes it anew has an error of its own.
            fs::remove_dir_all(out).ok()?;
            fs::create_dir(out).ok()?;
            return None;
        }
        for (stage, text) in &book.index.warnings {
            let stage = materials::stage_named(stage);
            let text = text.clone();
            self.context
                .listener()
                .event(Event::Warning { stage, text });
        }
        Some(manifest)
    }

    /// Keeps the draft in `out`, of which `warnings` were told.
    pub(super) fn keep_draft(
        &self,
        request: BakeRequest<'_>,
        inputs: Inputs,
        (out, manifest): (&Path, &Manifest),
        warnings: Vec<(String, String)>,
    ) -> anyhow::Result<()> {
        let mut writer = self.keep.create()?;
        let mut index = Draft {
            inputs,
            manifest: manifest.to_bytes(),
            files: Vec::new(),
            warnings,
        };
        let mut left = LIMIT;
        let mut buffer = Vec::new();
        for name in names(out)? {
            let file = File::open(out.join(&name))?;
            let size = file.metadata()?.len();
            let mut data = Vec::new();
            for (start, end) in extents(&file, size)? {
                let Some(rest) = left.checked_sub(end - start) else {
                    return Ok(());
                };
                left = rest;
                let mut at = start;
                while at < end {
                    let length = (end - at).min(STEP);
                    buffer.resize(usize::try_from(length)?, 0);
                    file.read_exact_at(&mut buffer, at)?;
                    data.push((at, writer.append(&buffer)?));
                    at += length;
                }
            }
            index.files.push(Stored { name, size, data });
        }
        writer.finish(KIND, &key(request), &index)?;
        Ok(())
    }
}

/// One draft is kept per recipe and architecture.
fn key(request: BakeRequest<'_>) -> Digest {
    let recipe = &request.folder.recipe;
    let mut key = Key::new(VERSION);
    key.add(recipe.name.as_bytes());
    key.add(recipe.architecture.name().as_bytes());
    key.add(
        request
            .folder
            .profile
            .as_deref()
            .unwrap_or_default()
            .as_bytes(),
    );
    key.finish()
}

/// All files below a folder, by their path in it.
fn names(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(below) = folders.pop() {
        for entry in fs::read_dir(folder.join(&below))? {
            let entry = entry?;
            let name = entry.file_name().into_string();
            let name = name.map_err(|name| anyhow::anyhow!("odd name {}", name.display()))?;
            let name = match below.is_empty() {
                true => name,
                false => format!("{below}/{name}"),
            };
            match entry.file_type()?.is_dir() {
                true => folders.push(name),
                false => names.push(name),
            }
        }
    }
    names.sort();
    Ok(names)
}

/// Where a file has data.
fn extents(file: &File, size: u64) -> anyhow::Result<Vec<(u64, u64)>> {
    let seek = |from: u64, whence| -> anyhow::Result<u64> {
        Ok(u64::try_from(lseek(file, i64::try_from(from)?, whence)?)?)
    };
    let mut extents = Vec::new();
    let mut at = 0;
    while at < size {
        let offset = i64::try_from(at)?;
        let start = match lseek(file, offset, Whence::SeekData) {
            Ok(start) => u64::try_from(start)?,
            Err(Errno::ENXIO) => break,
            Err(error) => return Err(error).context("cannot look for data"),
        };
        let end = seek(start, Whence::SeekHole)?;
        extents.push((start, end));
        at = end;
    }
    Ok(extents)
}

/// Writes the files of a book, several pieces at a time.
fn restore(book: &Book<Draft>, out: &Path, threads: NonZeroUsize) -> io::Result<()> {
    let mut work = Vec::new();
    for stored in &book.index.files {
        let path = out.join(&stored.name);
        fs::create_dir_all(path.parent().unwrap_or(out))?;
        let file = File::create_new(path)?;
        file.set_len(stored.size)?;
        work.push((file, &stored.data));
    }
    let pieces: Vec<(&File, u64, &Piece)> = work
        .iter()
        .flat_map(|(file, data)| data.iter().map(move |(at, piece)| (file, *at, piece)))
        .collect();
    let next = AtomicUsize::new(0);
    let write = || -> io::Result<()> {
        while let Some((file, at, piece)) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
            let bytes = book.piece(piece);
            let bytes = bytes.ok_or(io::ErrorKind::InvalidData)?;
            file.write_all_at(&bytes, *at)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.get()).map(|_| scope.spawn(write)).collect();
        threads.into_iter().try_for_each(super::joined)
    })
}
