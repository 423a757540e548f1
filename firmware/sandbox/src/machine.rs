//! The way in as `/init` of a throwaway machine.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use baker_contract::MODULE_LIST;
use baker_contract::sandbox::{Frame, SANDBOX_PORT};
use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::MsFlags;
use nix::sys::reboot::{RebootMode, reboot};

use crate::world::Place;
use crate::{Fault, doing, job, world};

/// The disk with the input.
const INPUT: &str = "/dev/vda";

/// Where ports have their names.
const PORTS: &str = "/sys/class/virtio-ports";

/// How long disk and port may take to appear.
const PATIENCE: Duration = Duration::from_secs(60);

/// Does the job and ends the machine, whatever happens.
pub fn run() -> Result<(), Fault> {
    let outcome = work();
    if let Err(fault) = &outcome {
        // The port may be what is missing: the console is the other place to say it.
        eprint_line(fault);
    }
    nix::unistd::sync();
    let ended = reboot(RebootMode::RB_POWER_OFF);
    ended.map(drop).map_err(doing("power off"))
}

#[expect(clippy::print_stderr, reason = "the console of the machine")]
fn eprint_line(text: &str) {
    eprintln!("baker-sandbox: {text}");
}

fn work() -> Result<(), Fault> {
    for (kind, target) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")] {
        fs::create_dir_all(target).map_err(doing(format!("make {target}")))?;
        world::mount(kind, target, kind, MsFlags::empty(), None)?;
    }
    load_modules()?;
    let port = wait_for("the port", || Ok(port()?.filter(|path| path.exists())))?;
    let output = OpenOptions::new().write(true).open(&port);
    let output = output.map_err(doing("open the port"))?;
    let outcome = attend(&output);
    if let Err(fault) = &outcome {
        let told = Frame::Failed(fault.clone()).write(&mut &output);
        told.map_err(doing("tell of a failure"))?;
    }
    outcome
}

fn attend(output: &File) -> Result<(), Fault> {
    let path = PathBuf::from(INPUT);
    let disk = wait_for("the disk", || Ok(path.exists().then_some(&path)))?;
    let input = File::open(disk).map_err(doing("open the disk"))?;
    let output = output.try_clone().map_err(doing("share the port"))?;
    let mut input = BufReader::with_capacity(1 << 20, input);
    job::run(Place::in_machine()?, &mut input, Box::new(output))
}

/// The modules that the initramfs names. One that does not load is not the end: whether it
/// mattered shows when port or disk do not appear.
fn load_modules() -> Result<(), Fault> {
    let list = fs::read_to_string(MODULE_LIST).map_err(doing("read the list of modules"))?;
    for path in list.lines().filter(|line| !line.is_empty()) {
        let file = File::open(path).map_err(doing(format!("open {path}")))?;
        match finit_module(&file, c"", ModuleInitFlags::empty()) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(error) => eprint_line(&doing(format!("load {path}"))(error)),
        }
    }
    Ok(())
}

/// The node of the port for frames.
fn port() -> io::Result<Option<PathBuf>> {
    let Ok(ports) = fs::read_dir(PORTS) else {
        return Ok(None);
    };
    for port in ports {
        let port = port?;
        let name = fs::read_to_string(port.path().join("name")).unwrap_or_default();
        if name.trim() == SANDBOX_PORT {
            return Ok(Some(Path::new("/dev").join(port.file_name())));
        }
    }
    Ok(None)
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> io::Result<Option<T>>) -> Result<T, Fault> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        match look().map_err(doing(format!("look for {what}")))? {
            Some(found) => return Ok(found),
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    }
    Err(format!(
        "{what} did not appear within {} s",
        PATIENCE.as_secs()
    ))
}
