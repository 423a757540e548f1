//! Brings a release out of a target into a folder, and verifies it on the way in.
//!
//! ```text
//! to/.minimal-1.0.0.pull/minimal-1.0.0/   files come in; kept when interrupted, to go on from
//! to/minimal-1.0.0/                       there in one step, verified
//! to/minimal-1.0.0.receipt.json           where from, by which channel, and who vouched for it
//! ```
//!
//! The signed lists come first: nothing large is fetched for a release that nobody trusted has
//! signed. Every file is hashed while it comes in and goes no further than a hidden folder when
//! its digest is another one; memory is bounded by one buffer. At last the whole folder is
//! verified as `baker verify` does. Leaving that out is possible, said loudly, and stands in the
//! receipt.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use baker_model::event::Outcome;
use baker_model::plan::Day;
use baker_model::{Digest, Digester, Event, Interrupt, Listener};
use serde::{Deserialize, Serialize};

use crate::atomic::{self, Existing};
use crate::channel::{self, ChannelError, Entry};
use crate::folder::{BUFFER, Watch};
use crate::lists;
use crate::promote::Withdrawn;
use crate::report::{Problem, SignedBy, Warning};
use crate::said;
use crate::target::{ChannelId, Lock, Piece, Record, ReleaseId, Target, TargetError, read_all};
use crate::trust::Trust;
use crate::verify::{self, VerifyError};

/// The largest receipt that is read, bytes.
const RECEIPT_LIMIT: u64 = 1 << 20;

/// The version of receipts that this baker writes.
pub const RECEIPT_VERSION: u32 = 1;

/// Which release is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// This version.
    Version(ReleaseId),
    /// The one that a channel points to.
    Channel(ChannelId),
}

/// Whether what comes in is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// It is.
    Verify,
    /// Only that it is what the target's own record says: nobody vouches for that.
    Skip,
}

/// What is asked for.
#[derive(Clone, Copy)]
pub struct Pull<'a> {
    /// Where the release is.
    pub target: &'a dyn Target,
    /// Which release.
    pub wanted: &'a Wanted,
    /// Folder that gets it.
    pub to: &'a Path,
    /// Whose signatures count.
    pub trust: &'a Trust,
    /// Whether to verify.
    pub check: Check,
    /// Whether a withdrawn release is taken all the same.
    pub withdrawn: Withdrawn,
    /// Today in UTC.
    pub today: Day,
}

/// A release that has arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// Its folder.
    pub folder: PathBuf,
    /// Its receipt, as written.
    pub receipt: Receipt,
    /// What a person should know.
    pub warnings: Vec<String>,
    /// Whether it was fetched now or was there already.
    pub how: Outcome,
}

/// `<name>-<version>.receipt.json`: how a release came here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Receipt {
    /// [`RECEIPT_VERSION`].
    pub receipt_version: u32,
    /// The target.
    pub from: String,
    /// The release, `name:version`.
    pub release: String,
    /// Digest of its manifest.
    pub manifest: Digest,
    /// The channel that pointed to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<Followed>,
    /// True when it was verified on the way in.
    pub verified: bool,
    /// The trusted keys that signed it; empty when it was not verified.
    pub signed_by: Vec<Digest>,
    /// Why it was withdrawn, when somebody insisted on it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub withdrawn: Vec<String>,
    /// The day in UTC.
    pub day: Day,
}

/// How far a channel was when it was followed. The next pull of the same channel into the same
/// folder refuses one that is not longer by the same history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Followed {
    /// Name of the channel.
    pub name: String,
    /// Number of its last pointer.
    pub sequence: u64,
    /// Digest of that pointer's line.
    pub pointer: Digest,
}

/// A release was not pulled; no part of it has its name.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// There is no such release.
    #[error("there is no release {release} in {place}")]
    NoRelease {
        /// The release.
        release: String,
        /// The target.
        place: String,
    },
    /// It was withdrawn.
    #[error("{release} was withdrawn: {}", reasons.join("; "))]
    Withdrawn {
        /// The release.
        release: String,
        /// Why.
        reasons: Vec<String>,
    },
    /// It does not verify.
    #[error("{release} does not verify:{}", list(problems))]
    NotGood {
        /// The release.
        release: String,
        /// Everything that is wrong.
        problems: Vec<Problem>,
    },
    /// The release under the version is not the one that the channel names.
    #[error("{channel} names another release than the {release} of {place}")]
    Swapped {
        /// The channel.
        channel: String,
        /// The release.
        release: String,
        /// The target.
        place: String,
    },
    /// The channel is not a continuation of what was followed before.
    #[error(
        "{channel} was at number {seen} when it was last followed here, and what {place} has now \
         is not that history or shorter"
    )]
    RolledBack {
        /// The channel.
        channel: String,
        /// The number then.
        seen: u64,
        /// The target.
        place: String,
    },
    /// Another baker is pulling the same release.
    #[error("another baker is pulling into {} right now", folder.display())]
    Busy {
        /// The hidden folder.
        folder: PathBuf,
    },
    /// Something else has the name of the release.
    #[error("{} is already there and is another release", folder.display())]
    Occupied {
        /// The folder.
        folder: PathBuf,
    },
    /// The channel cannot be followed.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// The target or the folder.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The release cannot be read where it has arrived.
    #[error(transparent)]
    Verify(#[from] VerifyError),
}

/// Pulls a release.
///
/// # Errors
/// See [`PullError`]. What has come in so far stays in the hidden folder for the next try.
pub fn pull(
    request: &Pull<'_>,
    listener: &dyn Listener,
    interrupt: &Interrupt,
) -> Result<Pulled, PullError> {
    let watch = Watch {
        stage: "pull",
        listener,
        interrupt,
    };
    let target = request.target;
    let followed = follow(request)?;
    let id = match (&followed, request.wanted) {
        (_, Wanted::Version(id)) => id.clone(),
        (Some(entry), Wanted::Channel(channel)) => of_entry(entry, channel, target)?,
        (None, Wanted::Channel(channel)) => return Err(no_channel(channel, target).into()),
    };
    let no_release = || PullError::NoRelease {
        release: id.to_string(),
        place: target.place(),
    };
    let record = target.record(&id)?.ok_or_else(no_release)?;
    let release = record.release().ok_or_else(no_release)?;
    if let (Some(entry), Wanted::Channel(channel)) = (&followed, request.wanted)
        && entry.pointer.release != release
    {
        return Err(PullError::Swapped {
            channel: channel.to_string(),
            release: id.to_string(),
            place: target.place(),
        });
    }
    let mut warnings = Vec::new();
    let withdrawn = withdrawals(request, &record, &mut warnings)?;
    let signed_by = check_lists(request, &record, interrupt)?;
    watch.listener.event(Event::Started {
        stage: watch.stage,
        total: Some(record.bytes()),
        unit: "bytes",
    });
    let (folder, how) = arrive(request, &record, &mut warnings, watch)?;
    let receipt = Receipt {
        receipt_version: RECEIPT_VERSION,
        from: target.place(),
        release: id.to_string(),
        manifest: release,
        channel: followed.as_ref().map(|entry| Followed {
            name: entry.pointer.channel.clone(),
            sequence: entry.pointer.sequence,
            pointer: entry.digest,
        }),
        verified: request.check == Check::Verify,
        signed_by: signed_by.iter().map(|signer| signer.key_id).collect(),
        withdrawn,
        day: request.today,
    };
    write_receipt(request.to, &id, &receipt)?;
    watch.listener.event(Event::Finished {
        stage: watch.stage,
        how,
        summary: folder.display().to_string(),
    });
    Ok(Pulled {
        folder,
        receipt,
        warnings,
        how,
    })
}

fn no_channel(channel: &ChannelId, target: &dyn Target) -> ChannelError {
    ChannelError::NoChannel {
        channel: channel.to_string(),
        place: target.place(),
    }
}

fn of_entry(
    entry: &Entry,
    channel: &ChannelId,
    target: &dyn Target,
) -> Result<ReleaseId, PullError> {
    let id = ReleaseId::new(channel.name(), &entry.pointer.version);
    id.ok_or_else(|| PullError::NoRelease {
        release: entry.pointer.version.escape_debug().to_string(),
        place: target.place(),
    })
}

/// Where the wanted channel points, when one is wanted. Its history must go on from where it was
/// when it was last followed into this folder.
fn follow(request: &Pull<'_>) -> Result<Option<Entry>, PullError> {
    let Wanted::Channel(id) = request.wanted else {
        return Ok(None);
    };
    let history = channel::history(request.target, id, request.trust)?;
    for seen in followed_before(request.to, id)? {
        let goes_on = history
            .entries
            .iter()
            .any(|entry| entry.digest == seen.pointer);
        if !goes_on {
            return Err(PullError::RolledBack {
                channel: id.to_string(),
                seen: seen.sequence,
                place: request.target.place(),
            });
        }
    }
    Ok(history.current().cloned())
}

/// What the receipts in `to` remember of a channel.
fn followed_before(to: &Path, id: &ChannelId) -> Result<Vec<Followed>, TargetError> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(to) else {
        return Ok(found);
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if !name
            .to_str()
            .is_some_and(|name| name.ends_with(RECEIPT_SUFFIX))
        {
            continue;
        }
        let bytes = read_all(&entry.path(), RECEIPT_LIMIT)?.unwrap_or_default();
        let Ok(receipt) = serde_json::from_slice::<Receipt>(&bytes) else {
            continue;
        };
        let is_own = receipt.release.split(':').next() == Some(id.name());
        found.extend(
            receipt
                .channel
                .filter(|seen| is_own && seen.name == id.channel()),
        );
    }
    Ok(found)
}

const RECEIPT_SUFFIX: &str = ".receipt.json";

fn write_receipt(to: &Path, id: &ReleaseId, receipt: &Receipt) -> Result<(), TargetError> {
    let path = to.join(format!("{}{RECEIPT_SUFFIX}", id.folder()));
    let mut bytes = serde_json::to_vec_pretty(receipt).expect("a receipt holds only plain data");
    bytes.push(b'\n');
    atomic::write(&path, &bytes, 0o644, Existing::Replace)
        .map_err(|error| TargetError::of_write(&path, RECEIPT_LIMIT, error))
}

/// Refuses what trusted keys have withdrawn, unless somebody insists.
fn withdrawals(
    request: &Pull<'_>,
    record: &Record,
    warnings: &mut Vec<String>,
) -> Result<Vec<String>, PullError> {
    let said = said::about(request.target, record, request.trust)?;
    let mut reasons = Vec::new();
    for said in said {
        let Some(why) = said.withdrawal() else {
            continue;
        };
        if said.signed_by.is_empty() {
            warnings.push(format!("somebody unknown withdrew {}: {why}", record.id));
        } else {
            reasons.push(why);
        }
    }
    let release = record.id.to_string();
    if !reasons.is_empty() && request.withdrawn == Withdrawn::Refuse {
        return Err(PullError::Withdrawn { release, reasons });
    }
    let loud = reasons
        .iter()
        .map(|why| format!("{release} WAS WITHDRAWN: {why}"));
    warnings.extend(loud);
    Ok(reasons)
}

/// The signed lists, before anything large comes in.
fn check_lists(
    request: &Pull<'_>,
    record: &Record,
    interrupt: &Interrupt,
) -> Result<Vec<SignedBy>, PullError> {
    if request.check == Check::Skip {
        return Ok(Vec::new());
    }
    let lists = lists::fetch(request.target, record, request.trust, interrupt)?;
    if !lists.report.is_good() {
        return Err(not_good(record, lists.report.problems));
    }
    Ok(lists
        .report
        .facts
        .map_or_else(Vec::new, |facts| facts.signed_by))
}

fn not_good(record: &Record, problems: Vec<Problem>) -> PullError {
    PullError::NotGood {
        release: record.id.to_string(),
        problems,
    }
}

/// Fetches all pieces and gives the release its name. One that is there already is verified again
/// and left.
fn arrive(
    request: &Pull<'_>,
    record: &Record,
    warnings: &mut Vec<String>,
    watch: Watch<'_>,
) -> Result<(PathBuf, Outcome), PullError> {
    let folder = request.to.join(record.id.folder());
    if folder.symlink_metadata().is_ok() {
        let manifest = read_all(&folder.join(crate::MANIFEST), lists::LIST_LIMIT)?;
        if manifest.map(|bytes| Digest::of(&bytes)) != record.release() {
            return Err(PullError::Occupied { folder });
        }
        verify_whole(request, record, &folder, warnings, watch)?;
        return Ok((folder, Outcome::Reused));
    }
    let hidden = request.to.join(format!(".{}.pull", record.id.folder()));
    let coming = hidden.join(record.id.folder());
    let failed = |error| TargetError::of_write(&coming, record.bytes(), error);
    std::fs::create_dir_all(&coming).map_err(failed)?;
    let lock = Lock::try_take(&hidden).map_err(failed)?;
    let Some(_lock) = lock else {
        return Err(PullError::Busy { folder: hidden });
    };
    for piece in &record.pieces {
        fetch(request.target, record, piece, &coming, watch)?;
    }
    verify_whole(request, record, &coming, warnings, watch)?;
    atomic::sync_folder(&coming).map_err(failed)?;
    crate::target::rename_no_replace(&coming, &folder)
        .map_err(|errno| TargetError::of_write(&folder, 0, errno.into()))?;
    drop(std::fs::remove_dir_all(&hidden));
    atomic::sync_folder(request.to).map_err(failed)?;
    Ok((folder, Outcome::Done))
}

fn verify_whole(
    request: &Pull<'_>,
    record: &Record,
    folder: &Path,
    warnings: &mut Vec<String>,
    watch: Watch<'_>,
) -> Result<(), PullError> {
    if request.check == Check::Skip {
        warnings.push(format!(
            "{} IS NOT VERIFIED: nobody vouches for what came",
            record.id
        ));
        return Ok(());
    }
    let silent = baker_model::Silent;
    let report = verify::verify(folder, request.trust, &silent, watch.interrupt)?;
    warnings.extend(report.warnings.iter().map(Warning::to_string));
    if report.is_good() {
        Ok(())
    } else {
        Err(not_good(record, report.problems))
    }
}

/// Fetches one piece, going on where an earlier try ended.
fn fetch(
    target: &dyn Target,
    record: &Record,
    piece: &Piece,
    folder: &Path,
    watch: Watch<'_>,
) -> Result<(), TargetError> {
    let path = folder.join(&piece.name);
    let failed = |error| TargetError::of_write(&path, piece.size, error);
    std::fs::create_dir_all(path.parent().unwrap_or(folder)).map_err(failed)?;
    let mut coming = Coming::open(&path, piece.size, watch).map_err(failed)?;
    // What an earlier try left may be of another release, or damaged: then once more from the start.
    for is_last in [coming.size == 0, true] {
        if coming.size < piece.size {
            target.read(record, piece, coming.size, &mut coming, watch)?;
        }
        coming.file.sync_all().map_err(failed)?;
        let found = coming.digester.clone().finish();
        if found == piece.sha256 && coming.size == piece.size {
            return Ok(());
        }
        if is_last {
            drop(std::fs::remove_file(&path));
            return Err(TargetError::Corrupt {
                place: target.place(),
                name: piece.name.clone(),
                expected: piece.sha256,
                found,
            });
        }
        drop(std::fs::remove_file(&path));
        coming = Coming::open(&path, piece.size, watch).map_err(failed)?;
    }
    Ok(())
}

/// A file that grows at its end and is hashed from its beginning.
struct Coming<'a> {
    file: File,
    size: u64,
    digester: Digester,
    watch: Watch<'a>,
}

impl<'a> Coming<'a> {
    /// Opens what an earlier try left, or a new file.
    fn open(path: &Path, limit: u64, watch: Watch<'a>) -> io::Result<Self> {
        use std::io::Read as _;
        use std::os::unix::fs::OpenOptionsExt as _;
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(path)?;
        if file.metadata()?.len() > limit {
            file.set_len(0)?;
        }
        let (mut digester, mut size, mut buffer) = (Digester::new(), 0, vec![0; BUFFER]);
        loop {
            let count = match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            digester.update(&buffer[..count]);
            size += count as u64;
        }
        watch.advance(size);
        Ok(Self {
            file,
            size,
            digester,
            watch,
        })
    }
}

impl Write for Coming<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.digester.update(&bytes[..count]);
        self.size += count as u64;
        self.watch.advance(count as u64);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn list(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(|problem| format!("\n- {problem}"))
        .collect()
}
