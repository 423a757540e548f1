//! What baker and the program inside the sandbox say to each other.
//!
//! The program gets one stream and gives another. In:
//!
//! ```text
//! magic  8 bytes   b"bksandb1"
//! count  u32       sections, of which the first is the job
//! sizes  u64 each  bytes of each section
//! job    see [`Job::to_bytes`]
//! tar    archives of the tree, unpacked over each other
//! tar    when there is a second section: files that are put in place last, also where the tree is
//!        covered while the job runs (`/run`)
//! ```
//!
//! Out: [`Frame`]s, the last of which is [`Frame::Done`] or [`Frame::Failed`]. A stream that ends
//! without either is a sandbox that died. All numbers are little-endian.

use std::io::{self, Read, Write};

/// How the stream of sections begins.
pub const SANDBOX_MAGIC: &[u8; 8] = b"bksandb1";

/// Name of the virtio-serial port that takes the frames when the sandbox is a machine.
pub const SANDBOX_PORT: &str = "baker.sandbox.1";

/// Where the tree finds files that are only there while the job runs.
pub const SANDBOX_FILES: &str = "run/baker";

/// Name, below [`SANDBOX_FILES`], of the library that keeps the clock still.
pub const SANDBOX_CLOCK: &str = "clock.so";

/// How the place in the library is found where time and release are written.
pub const CLOCK_MARK: &[u8; 16] = b"baker clock v1:\0";

/// Bytes of a kernel's release in that library, its ending zero included.
const RELEASE: usize = 64;

/// Most sections; a larger number is damage.
const SECTION_LIMIT: u32 = 64;

/// Longest job and longest frame, bytes.
const LENGTH_LIMIT: u32 = 64 << 20;

/// What to do inside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Job {
    /// Seconds since 1970-01-01 UTC that every clock shows.
    pub epoch: i64,
    /// Name of the host.
    pub host_name: String,
    /// What `uname -r` says.
    pub kernel_release: String,
    /// The whole environment of every step.
    pub environment: Vec<(String, String)>,
    /// What runs, in order; behind one that fails only those that ask for it.
    pub steps: Vec<Step>,
    /// Whether the tree is sent back at the end.
    pub wants_tree: bool,
    /// Absolute paths of what is sent of it, with all below; everything when there is none.
    pub outputs: Vec<String>,
}

/// One program that runs in the tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Step {
    /// The program, by absolute path or found by `PATH`, and its arguments.
    pub argv: Vec<String>,
    /// Where it runs; `/` when empty.
    pub directory: String,
    /// Whether a person is at its other end.
    pub is_interactive: bool,
    /// Whether it also runs when a step before it has failed.
    pub runs_after_failure: bool,
}

/// One message of the program inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// It waits for its user ids to be mapped; the first byte of its input says that they are.
    Ready,
    /// Step number such begins.
    Started(u32),
    /// Bytes that the running step wrote, to standard output or standard error.
    Output(Vec<u8>),
    /// The running step ended with this code; 128 and more are signals, as shells have it.
    Ended(i32),
    /// A part of the archive of the tree.
    Tree(Vec<u8>),
    /// All steps succeeded, or one did not and was told of; nothing comes after this.
    Done,
    /// The sandbox itself did not work, and why; nothing comes after this.
    Failed(String),
}

impl Job {
    /// The job as the first section.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(self.epoch.to_le_bytes());
        put_text(&mut out, &self.host_name);
        put_text(&mut out, &self.kernel_release);
        put_count(&mut out, self.environment.len());
        for (name, value) in &self.environment {
            put_text(&mut out, name);
            put_text(&mut out, value);
        }
        put_count(&mut out, self.steps.len());
        for step in &self.steps {
            put_count(&mut out, step.argv.len());
            for word in &step.argv {
                put_text(&mut out, word);
            }
            put_text(&mut out, &step.directory);
            out.push(u8::from(step.is_interactive));
            out.push(u8::from(step.runs_after_failure));
        }
        out.push(u8::from(self.wants_tree));
        put_count(&mut out, self.outputs.len());
        for path in &self.outputs {
            put_text(&mut out, path);
        }
        out
    }

    /// Reads [`Job::to_bytes`].
    ///
    /// # Errors
    /// The bytes end early or are no such job.
    pub fn from_bytes(mut bytes: &[u8]) -> io::Result<Self> {
        let from = &mut bytes;
        let epoch = i64::from_le_bytes(array(from)?);
        let (host_name, kernel_release) = (text(from)?, text(from)?);
        let environment = list(from, |from| Ok((text(from)?, text(from)?)))?;
        let steps = list(from, |from| {
            Ok(Step {
                argv: list(from, text)?,
                directory: text(from)?,
                is_interactive: flag(from)?,
                runs_after_failure: flag(from)?,
            })
        })?;
        let wants_tree = flag(from)?;
        let outputs = list(from, text)?;
        match from.is_empty() {
            true => Ok(Self {
                epoch,
                host_name,
                kernel_release,
                environment,
                steps,
                wants_tree,
                outputs,
            }),
            false => Err(damaged("bytes behind the job")),
        }
    }
}

/// Writes what stands before the sections.
///
/// # Errors
/// The writer's own.
pub fn write_sections(out: &mut dyn Write, sizes: &[u64]) -> io::Result<()> {
    out.write_all(SANDBOX_MAGIC)?;
    let count = u32::try_from(sizes.len()).map_err(io::Error::other)?;
    out.write_all(&count.to_le_bytes())?;
    sizes
        .iter()
        .try_for_each(|size| out.write_all(&size.to_le_bytes()))
}

/// Reads what stands before the sections: their sizes.
///
/// # Errors
/// The reader's own, or something else stands there.
pub fn read_sections(from: &mut dyn Read) -> io::Result<Vec<u64>> {
    let magic: [u8; 8] = array(from)?;
    let count = u32::from_le_bytes(array(from)?);
    if &magic != SANDBOX_MAGIC || !(1..=SECTION_LIMIT).contains(&count) {
        return Err(damaged("no job for this sandbox"));
    }
    (0..count)
        .map(|_| array(from).map(u64::from_le_bytes))
        .collect()
}

impl Frame {
    /// Writes the frame: kind, length, content.
    ///
    /// # Errors
    /// The writer's own.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let number;
        let (kind, content): (u8, &[u8]) = match self {
            Self::Ready => (b'r', &[]),
            Self::Started(step) => {
                number = step.to_le_bytes();
                (b's', &number)
            }
            Self::Output(bytes) => (b'o', bytes),
            Self::Ended(code) => {
                number = code.to_le_bytes();
                (b'e', &number)
            }
            Self::Tree(bytes) => (b't', bytes),
            Self::Done => (b'd', &[]),
            Self::Failed(text) => (b'f', text.as_bytes()),
        };
        let length = u32::try_from(content.len()).map_err(io::Error::other)?;
        out.write_all(&[kind])?;
        out.write_all(&length.to_le_bytes())?;
        out.write_all(content)?;
        out.flush()
    }

    /// Reads the next frame.
    ///
    /// # Errors
    /// The reader's own (`UnexpectedEof` when it has ended), or no frame stands there.
    pub fn read(from: &mut dyn Read) -> io::Result<Self> {
        let [kind] = array(from)?;
        let length = u32::from_le_bytes(array(from)?);
        if length > LENGTH_LIMIT {
            return Err(damaged("a frame that is too long"));
        }
        let content = bytes(from, length)?;
        let number = || {
            let number = content.as_slice().try_into();
            number.map_err(|_| damaged("a number of another length"))
        };
        match kind {
            b'r' => Ok(Self::Ready),
            b's' => Ok(Self::Started(u32::from_le_bytes(number()?))),
            b'o' => Ok(Self::Output(content)),
            b'e' => Ok(Self::Ended(i32::from_le_bytes(number()?))),
            b't' => Ok(Self::Tree(content)),
            b'd' => Ok(Self::Done),
            b'f' => Ok(Self::Failed(String::from_utf8_lossy(&content).into_owned())),
            _ => Err(damaged("a frame of an unknown kind")),
        }
    }
}

/// Writes time and kernel release into the library that keeps the clock still; none when it is no
/// such library or the release is too long.
#[must_use]
pub fn set_clock(library: &[u8], epoch: i64, release: &str) -> Option<Vec<u8>> {
    let mark = library
        .windows(CLOCK_MARK.len())
        .position(|part| part == CLOCK_MARK)?;
    let (time, text) = (mark + CLOCK_MARK.len(), mark + CLOCK_MARK.len() + 8);
    let mut set = library.to_vec();
    set.get_mut(time..text)?
        .copy_from_slice(&epoch.to_le_bytes());
    let place = set.get_mut(text..text + RELEASE)?;
    let (words, rest) = place.split_at_mut_checked(release.len())?;
    words.copy_from_slice(release.as_bytes());
    *rest.first_mut()? = 0;
    Some(set)
}

fn damaged(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    // More would not be read back: the limit of a whole job is far below.
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    out.extend(count.to_le_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_count(out, text.len());
    out.extend(text.as_bytes());
}

fn array<const N: usize>(from: &mut dyn Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Grows with what really comes, whatever length was announced.
fn bytes(mut from: &mut dyn Read, length: u32) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = (&mut from).take(length.into()).read_to_end(&mut bytes)?;
    match u32::try_from(read) {
        Ok(read) if read == length => Ok(bytes),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn flag(from: &mut &[u8]) -> io::Result<bool> {
    Ok(array::<1>(from)? == [1])
}

fn text(from: &mut &[u8]) -> io::Result<String> {
    let length = u32::from_le_bytes(array(from)?);
    String::from_utf8(bytes(from, length)?).map_err(|_| damaged("text that is not UTF-8"))
}

fn list<T>(
    from: &mut &[u8],
    mut item: impl FnMut(&mut &[u8]) -> io::Result<T>,
) -> io::Result<Vec<T>> {
    let count = u32::from_le_bytes(array(from)?);
    (0..count).map(|_| item(from)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> Job {
        Job {
            epoch: -7,
            host_name: "baker".to_owned(),
            kernel_release: "6.12".to_owned(),
            environment: vec![("PATH".to_owned(), "/bin".to_owned())],
            steps: vec![Step {
                argv: vec!["dpkg".to_owned(), "--configure\n".to_owned()],
                directory: "/tmp".to_owned(),
                is_interactive: true,
                runs_after_failure: false,
            }],
            wants_tree: true,
            outputs: vec!["/a".to_owned()],
        }
    }

    #[test]
    fn jobs_come_back_and_no_part_of_one_is_a_job() {
        let bytes = job().to_bytes();
        assert_eq!(Job::from_bytes(&bytes).unwrap(), job());
        for end in 0..bytes.len() {
            assert!(Job::from_bytes(&bytes[..end]).is_err(), "{end}");
        }
        assert!(Job::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
        // A count that promises more than there is takes no memory.
        assert!(Job::from_bytes(&[0xff; 12]).is_err());
    }

    #[test]
    fn frames_come_back_in_order() {
        let frames = [
            Frame::Ready,
            Frame::Started(3),
            Frame::Output(b"x\0".to_vec()),
            Frame::Ended(-1),
            Frame::Tree(vec![7; 100_000]),
            Frame::Failed("no".to_owned()),
            Frame::Done,
        ];
        let mut stream = Vec::new();
        for frame in &frames {
            frame.write(&mut stream).unwrap();
        }
        let mut from = &stream[..];
        for frame in frames {
            assert_eq!(Frame::read(&mut from).unwrap(), frame);
        }
        let end = Frame::read(&mut from).unwrap_err().kind();
        assert_eq!(end, io::ErrorKind::UnexpectedEof);
        assert!(Frame::read(&mut &b"x\0\0\0\0"[..]).is_err());
        assert!(Frame::read(&mut &b"o\xff\xff\xff\xff"[..]).is_err());
    }

    #[test]
    fn the_clock_is_set_where_the_mark_is() {
        let library = [&[1, 2][..], CLOCK_MARK, &[7; 8 + RELEASE], &[3]].concat();
        let set = set_clock(&library, 5, "6.12").unwrap();
        assert_eq!(set.len(), library.len());
        assert_eq!(set[18..26], 5_i64.to_le_bytes());
        assert_eq!(&set[26..31], b"6.12\0");
        assert_eq!(set[31..], library[31..]);
        assert_eq!(set_clock(&library[..60], 5, "6.12"), None);
        assert_eq!(set_clock(&library[1..], 5, &"x".repeat(64)), None);
        assert_eq!(set_clock(b"nothing", 5, ""), None);
    }

    #[test]
    fn sections_come_back_and_others_are_refused() {
        let mut bytes = Vec::new();
        write_sections(&mut bytes, &[3, 1 << 40]).unwrap();
        assert_eq!(read_sections(&mut &bytes[..]).unwrap(), [3, 1 << 40]);
        for (at, byte) in [(0, b'x'), (8, 0), (8, 65)] {
            let mut bad = bytes.clone();
            bad[at] = byte;
            assert!(read_sections(&mut &bad[..]).is_err());
        }
    }
}
