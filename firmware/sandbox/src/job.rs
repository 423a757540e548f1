//! One job from its first byte to its last frame.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use baker_contract::sandbox::{Frame, Job, SANDBOX_CLOCK, SANDBOX_FILES, read_sections};
use nix::mount::MsFlags;

use crate::frames::{Frames, TreeWriter};
use crate::world::Place;
use crate::{Fault, doing, network, pack, steps, world};

/// Where the loader looks for libraries that come before all others.
const PRELOAD: &str = "/etc/ld.so.preload";

/// Takes the tree out of `input`, runs the steps in it, and sends it back.
pub fn run(
    place: Place,
    input: &mut dyn Read,
    output: Box<dyn io::Write + Send>,
) -> Result<(), Fault> {
    let frames = Frames::new(output);
    let sizes = read_sections(input).map_err(doing("read the input"))?;
    let mut sizes = sizes.into_iter();
    let job_size = sizes.next().unwrap_or_default();
    let files = sizes.next_back();
    let mut bytes = Vec::new();
    let mut job = input.take(job_size);
    job.read_to_end(&mut bytes).map_err(doing("read the job"))?;
    let job = Job::from_bytes(&bytes).map_err(doing("read the job"))?;
    for size in sizes {
        unpack(&mut input.take(size), place.base()).map_err(|error| chain("tree", &error))?;
    }
    place.enter()?;
    if let Some(size) = files {
        let root = Path::new("/");
        unpack(&mut input.take(size), root).map_err(|error| chain("files", &error))?;
    }
    nix::unistd::sethostname(&job.host_name).map_err(doing("set the host name"))?;
    network::raise_loopback()?;
    let clock = Clock::still()?;
    let outcome = steps::run(&job, &frames)?;
    drop(clock);
    if job.wants_tree && outcome == steps::Outcome::Good {
        world::uncover()?;
        let mut tree = TreeWriter::new(frames.clone());
        pack::pack(Path::new("/"), &job.outputs, &mut tree).map_err(doing("pack the tree"))?;
        tree.finish().map_err(doing("send the tree"))?;
    }
    frames.send(&Frame::Done)
}

/// Everything as the archive says it: owners, modes, times, attributes, links, devices.
fn unpack(from: &mut dyn Read, to: &Path) -> io::Result<()> {
    let mut archive = tar::Archive::new(&mut *from);
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(true);
    archive.set_preserve_mtime(true);
    archive.set_unpack_xattrs(true);
    archive.unpack(to)?;
    // What pads the archive's last record.
    io::copy(from, &mut io::sink()).map(drop)
}

/// An error of the archive, with what lies behind it.
fn chain(what: &str, error: &io::Error) -> Fault {
    let mut text = format!("cannot unpack the {what}: {error}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

/// The library that shows every program of the tree the same time; gone when dropped.
struct Clock(bool);

impl Clock {
    fn still() -> Result<Self, Fault> {
        let library = format!("/{SANDBOX_FILES}/{SANDBOX_CLOCK}");
        let is_wanted = Path::new(&library).exists();
        if is_wanted {
            fs::write(PRELOAD, format!("{library}\n")).map_err(doing("still the clock"))?;
            let none = None::<&str>;
            // Whatever a script does to it, it is no part of the tree.
            nix::mount::mount(Some(PRELOAD), PRELOAD, none, MsFlags::MS_BIND, none)
                .map_err(doing("hold the clock"))?;
        }
        Ok(Self(is_wanted))
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        if self.0 {
            nix::mount::umount(PRELOAD).ok();
            fs::remove_file(PRELOAD).ok();
        }
    }
}
