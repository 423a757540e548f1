//! The files of a release, compared with what its manifest says of them.
//!
//! Takes a folder and a manifest, gives every difference. Follows no symbolic link, reads no more
//! of a file than the manifest says it has.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use baker_model::manifest::ReleaseFile;
use baker_model::{Digest, Digester, Event, Interrupt, Listener};

use crate::atomic;
use crate::names;
use crate::report::Problem;

/// Bytes read at a time by each of the hashing threads.
pub(crate) const BUFFER: usize = 256 * 1024;

/// Who hears of the work of a stage and who can stop it.
#[derive(Clone, Copy)]
pub struct Watch<'a> {
    pub(crate) stage: &'static str,
    pub(crate) listener: &'a dyn Listener,
    pub(crate) interrupt: &'a Interrupt,
}

impl Watch<'_> {
    pub(crate) fn advance(&self, by: u64) {
        self.listener.event(Event::Advanced {
            stage: self.stage,
            by,
        });
    }

    /// # Errors
    /// Somebody asked to stop.
    pub(crate) fn go_on(&self) -> Result<(), Interrupted> {
        if self.interrupt.is_raised() {
            Err(Interrupted)
        } else {
            Ok(())
        }
    }
}

/// Somebody asked to stop.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Interrupted;

/// What lies in the folder, by path relative to it.
enum Found {
    File { size: u64 },
    EmptyFolder,
    Other { kind: &'static str },
    Unreadable { error: io::Error },
}

/// Compares `folder` with `files`; what is named twice or unsafely is left to the claims check.
pub(crate) fn check(
    folder: &Path,
    files: &[ReleaseFile],
    watch: Watch<'_>,
) -> Result<Vec<Problem>, Interrupted> {
    let expected: BTreeMap<&Path, &ReleaseFile> = files
        .iter()
        .rev()
        .filter(|file| names::objection_to(&file.name).is_none())
        .map(|file| (Path::new(file.name.as_str()), file))
        .collect();
    let found = walk(folder);
    let mut problems: Vec<_> = found
        .iter()
        .filter_map(|(path, found)| judge_found(path, found, &expected))
        .collect();
    let mut to_hash = Vec::new();
    for (path, file) in &expected {
        let name = file.name.clone();
        match found.get(*path) {
            Some(Found::File { size }) if *size == file.size => to_hash.push(*file),
            Some(Found::File { size }) => {
                problems.push(Problem::Size {
                    name,
                    expected: file.size,
                    found: *size,
                });
            }
            Some(Found::Other { .. } | Found::Unreadable { .. }) => {}
            Some(Found::EmptyFolder) | None => problems.push(Problem::Missing { name }),
        }
    }
    problems.extend(check_contents(folder, &to_hash, watch)?);
    Ok(problems)
}

fn judge_found(
    path: &Path,
    found: &Found,
    expected: &BTreeMap<&Path, &ReleaseFile>,
) -> Option<Problem> {
    let name = path.to_string_lossy().into_owned();
    let reserved = path
        .to_str()
        .is_some_and(|path| names::RESERVED.contains(&path));
    match found {
        Found::Other { kind } => Some(Problem::NotRegular { name, kind }),
        Found::Unreadable { error } => Some(Problem::Unreadable {
            name,
            cause: error.to_string(),
        }),
        Found::EmptyFolder => Some(Problem::Extra {
            name: format!("{name}/"),
        }),
        Found::File { .. } if reserved || expected.contains_key(path) => None,
        Found::File { .. } => Some(Problem::Extra { name }),
    }
}

/// Everything below `folder`, sorted by path.
fn walk(folder: &Path) -> BTreeMap<PathBuf, Found> {
    let mut found = BTreeMap::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(relative) = todo.pop() {
        let entries = match std::fs::read_dir(folder.join(&relative)) {
            Ok(entries) => entries,
            Err(error) => {
                found.insert(relative, Found::Unreadable { error });
                continue;
            }
        };
        let mut is_empty = true;
        for entry in entries {
            is_empty = false;
            let (path, entry) =
                match entry.and_then(|entry| Ok((entry.file_name(), entry.metadata()?))) {
                    Ok((name, metadata)) => (relative.join(name), metadata),
                    Err(error) => {
                        found.insert(relative.clone(), Found::Unreadable { error });
                        continue;
                    }
                };
            if entry.is_dir() {
                todo.push(path);
            } else if entry.is_file() {
                found.insert(path, Found::File { size: entry.len() });
            } else {
                found.insert(
                    path,
                    Found::Other {
                        kind: kind_of(entry.file_type()),
                    },
                );
            }
        }
        if is_empty && !relative.as_os_str().is_empty() {
            found.insert(relative, Found::EmptyFolder);
        }
    }
    found
}

fn kind_of(kind: std::fs::FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    if kind.is_symlink() {
        "symbolic link"
    } else if kind.is_fifo() {
        "named pipe"
    } else if kind.is_socket() {
        "socket"
    } else {
        "device"
    }
}

/// Hashes `files` with as many threads as there are processors; the largest come first so that no
/// thread is left alone with one at the end.
fn check_contents(
    folder: &Path,
    files: &[&ReleaseFile],
    watch: Watch<'_>,
) -> Result<Vec<Problem>, Interrupted> {
    let mut files = files.to_vec();
    files.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.name.cmp(&b.name)));
    let next = AtomicUsize::new(0);
    let problems = Mutex::new(BTreeMap::new());
    let work = || {
        while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            if watch.go_on().is_err() {
                return;
            }
            if let Some(problem) = check_content(folder, file, watch) {
                let mut problems = problems.lock().unwrap_or_else(PoisonError::into_inner);
                problems.insert(&file.name, problem);
            }
        }
    };
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 1..processors.min(files.len()) {
            scope.spawn(work);
        }
        work();
    });
    watch.go_on()?;
    let problems = problems
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    Ok(problems.into_values().collect())
}

fn check_content(folder: &Path, file: &ReleaseFile, watch: Watch<'_>) -> Option<Problem> {
    let name = file.name.clone();
    match digest_of(&folder.join(&file.name), file.size, watch) {
        Ok((_, found)) if found != file.size => Some(Problem::Size {
            name,
            expected: file.size,
            found,
        }),
        Ok((found, _)) if found != file.sha256 => Some(Problem::Content {
            name,
            expected: file.sha256,
            found,
        }),
        Ok(_) => None,
        Err(error) => Some(Problem::Unreadable {
            name,
            cause: error.to_string(),
        }),
    }
}

/// Digest and number of the bytes of the file, of which no more than `size + 1` are read.
fn digest_of(path: &Path, size: u64, watch: Watch<'_>) -> io::Result<(Digest, u64)> {
    let mut reader = atomic::open_regular(path)?.take(size.saturating_add(1));
    let mut digester = Digester::new();
    let mut buffer = vec![0; BUFFER];
    let mut total = 0;
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(0) => return Ok((digester.finish(), total)),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        digester.update(&buffer[..count]);
        total += count as u64;
        watch.advance(count as u64);
        if watch.go_on().is_err() {
            return Err(io::ErrorKind::Interrupted.into());
        }
    }
}
