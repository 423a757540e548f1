//! PID 1 of the initramfs: from the kernel's hands to a verified root.
//!
//! Takes the kernel command line and what the initrd holds; gives the machine to the init of the
//! root. Whatever goes wrong ends in one [`Init::Failed`] line and the end of the machine: no
//! shell, no endless wait.

use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use baker_contract::{Init, InitFailure, ROOT_DEVICE, ROOT_FORMAT_FILE};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::stat::minor;

use crate::cmdline::{OnFailure, RootHash, Settings};
use crate::disks::RootPartitions;
use crate::dm::{DeviceMapper, Target};
use crate::modules::Modules;
use crate::verity::{SUPERBLOCK_SIZE, Superblock};
use crate::{carried, console, disks, erofs, handover};

/// Where the root is mounted before it becomes the root.
const SYSROOT: &str = "/sysroot";

/// Metadata of more bytes than this is read when it is wanted: most of it never is, then.
const READ_AHEAD: u64 = 8 << 20;

/// Why init gives up.
struct Failure {
    code: InitFailure,
    detail: String,
}

fn failure(code: InitFailure) -> impl FnOnce(String) -> Failure {
    move |detail| Failure { code, detail }
}

/// Boots. Never returns: a dying PID 1 would take the kernel down with it.
pub fn run() -> ! {
    // Before anything else can go wrong, so that a defect ends as every failure does.
    std::panic::set_hook(Box::new(|panic| {
        let detail = format!("defect in init: {panic}");
        let command_line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
        let settings = Settings::parse(&command_line);
        end(
            Failure {
                code: InitFailure::Unknown,
                detail,
            },
            settings.on_failure,
        )
    }));
    let mounted = mount_basics();
    console::attach();
    console::say(&Init::Started);
    let settings = Settings::parse(&fs::read_to_string("/proc/cmdline").unwrap_or_default());
    let failure = match mounted {
        Ok(()) => boot(&settings),
        Err(detail) => Failure {
            code: InitFailure::Mount,
            detail,
        },
    };
    end(failure, settings.on_failure)
}

/// Says why, and ends the machine.
fn end(failure: Failure, on_failure: OnFailure) -> ! {
    console::say(&Init::Failed {
        code: failure.code,
        detail: failure.detail,
    });
    nix::unistd::sync();
    let modes = match on_failure {
        OnFailure::Reboot => [RebootMode::RB_AUTOBOOT, RebootMode::RB_POWER_OFF],
        OnFailure::PowerOff => [RebootMode::RB_POWER_OFF, RebootMode::RB_AUTOBOOT],
    };
    for mode in modes {
        // Returns only when the machine cannot do it; then the other way is still an end.
        reboot(mode).err();
    }
    std::process::exit(1)
}

fn mount_basics() -> Result<(), String> {
    let strict = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    // The probe is executed from /run, and device nodes are the point of /dev.
    let rows = [
        ("devtmpfs", "/dev", MsFlags::MS_NOSUID, "mode=755"),
        ("proc", "/proc", strict, ""),
        ("sysfs", "/sys", strict, ""),
        (
            "tmpfs",
            "/run",
            MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
            "mode=755",
        ),
    ];
    for (kind, path, flags, options) in rows {
        make_folder(path)?;
        mount(Some(kind), path, Some(kind), flags, Some(options))
            .map_err(|error| format!("cannot mount {kind} on {path}: {error}"))?;
    }
    Ok(())
}

fn make_folder(path: &str) -> Result<(), String> {
    fs::create_dir_all(path).map_err(|error| format!("cannot make {path}: {error}"))
}

/// The whole way; comes back only with a failure.
fn boot(settings: &Settings) -> Failure {
    let mut modules = Modules::read();
    modules.load_first();
    let failed = match open_root(settings, &mut modules) {
        Ok(()) => {
            let beside = modules.load_beside();
            // A system without its probe still runs; the host will notice the silence.
            let probed = handover::offer_probe().unwrap_or_else(|error| {
                console::complain(&format!("cannot offer the probe: {error}"));
                false
            });
            if let Some(beside) = beside {
                beside.wait_until_open();
            }
            let detail = handover::switch(Path::new(SYSROOT), settings.init.as_deref(), probed);
            return Failure {
                code: InitFailure::Handover,
                detail,
            };
        }
        Err(failed) => failed,
    };
    blame_modules(failed, &modules.broken)
}

/// Modules that did not load are the cause of what failed after them; a malformed command line
/// they did not write.
fn blame_modules(failed: Failure, broken: &[String]) -> Failure {
    if broken.is_empty() || failed.code == InitFailure::CommandLine {
        return failed;
    }
    let detail = format!("{}; then: {}", broken.join("; "), failed.detail);
    Failure {
        code: InitFailure::Module,
        detail,
    }
}

fn open_root(settings: &Settings, modules: &mut Modules) -> Result<(), Failure> {
    let hash = settings
        .root_hash
        .clone()
        .map_err(failure(InitFailure::CommandLine))?;
    let partitions = match carried::find() {
        Some(carried) => carried,
        None => {
            let more = || modules.load_driver();
            disks::find(hash.partition_ids(), settings.root_wait, more)
        }
    }
    .map_err(failure(InitFailure::NoRoot))?;
    let device = open_verity(&partitions, &hash, settings).map_err(failure(InitFailure::Verity))?;
    mount_root(&device)
}

fn open_verity(
    partitions: &RootPartitions,
    hash: &RootHash,
    settings: &Settings,
) -> Result<PathBuf, String> {
    let node = &partitions.tree.node;
    let mut bytes = [0; SUPERBLOCK_SIZE];
    File::open(node)
        .and_then(|file| file.read_exact_at(&mut bytes, 0))
        .map_err(|error| format!("cannot read {}: {error}", node.display()))?;
    let superblock = Superblock::parse(&bytes).map_err(|e| format!("{}: {e}", node.display()))?;
    let (data, tree) = (&partitions.data.number, &partitions.tree.number);
    let target = Target {
        start: 0,
        length: superblock
            .sectors()
            .ok_or("verity superblock claims too many blocks")?,
        kind: "verity".into(),
        parameters: superblock.table(data, tree, hash, settings.on_corruption),
    };
    let number = DeviceMapper::open()
        .map_err(|error| format!("cannot open device-mapper: {error}"))?
        .create(ROOT_DEVICE, &superblock.device_uuid(ROOT_DEVICE), &target)
        .map_err(|error| format!("the kernel refuses the verity table: {error}"))?;
    Ok(PathBuf::from(format!("/dev/dm-{}", minor(number))))
}

/// Reads one block first: an unreadable one is a matter of verity, not of the file system.
fn mount_root(device: &Path) -> Result<(), Failure> {
    let mut block = [0; 4096];
    let file = File::open(device)
        .and_then(|file| file.read_exact_at(&mut block, 0).map(|()| file))
        .map_err(|error| format!("cannot read the root through verity: {error}"))
        .map_err(failure(InitFailure::Verity))?;
    mount_format(device).map_err(failure(InitFailure::Mount))?;
    // Only now: to mount may forget what was read.
    if let Some(metadata) = erofs::metadata(&block) {
        read_ahead(&file, metadata);
    }
    Ok(())
}

/// Lets the kernel begin to read what every look-up of a name will want. By itself it would read one
/// block at a time, each when it is missed, between those of the files' data.
fn read_ahead(device: &File, range: Range<u64>) {
    if range.end - range.start > READ_AHEAD {
        return;
    }
    let (Ok(start), Ok(end)) = (range.start.try_into(), i64::try_from(range.end)) else {
        return;
    };
    // A hint: without it, a boot is slower and nothing else.
    posix_fadvise(
        device,
        start,
        end - start,
        PosixFadviseAdvice::POSIX_FADV_WILLNEED,
    )
    .ok();
}

fn mount_format(device: &Path) -> Result<(), String> {
    let text = fs::read_to_string(ROOT_FORMAT_FILE)
        .map_err(|error| format!("cannot read {ROOT_FORMAT_FILE}: {error}"))?;
    let format = match text.trim() {
        known @ ("erofs" | "squashfs") => known,
        other => return Err(format!("unknown root format `{other}`")),
    };
    make_folder(SYSROOT)?;
    mount(
        Some(device),
        SYSROOT,
        Some(format),
        MsFlags::MS_RDONLY,
        None::<&str>,
    )
    .map_err(|error| format!("cannot mount the root as {format}: {error}"))
}
