//! Publishing: wholly or not at all, whatever happens on the way.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use baker_model::{Event, Interrupt, Listener, Silent};
use nix::sys::signal::{Signal, raise};

use super::fixture::{self, skip, verified};
use crate::{Signed, TargetError, to_folder};

/// Tells the child below where to work; unset, the child test does nothing.
const CHILD: &str = "BAKER_SHIP_TEST_CHILD";
/// Number of the event at which the child kills itself.
const KILL_AT: &str = "BAKER_SHIP_TEST_KILL_AT";
/// Microseconds between that event and the kill.
const KILL_DELAY: &str = "BAKER_SHIP_TEST_KILL_DELAY";

fn publish(signed: Signed, to: &Path) -> Result<PathBuf, TargetError> {
    to_folder(signed, to, &Silent, &Interrupt::new())
}

/// A signed release in the new folder `at/staged`.
fn staged(at: &Path) -> Signed {
    let folder = at.join("staged");
    fs::create_dir_all(&folder).unwrap();
    fixture::signed(&folder)
}

/// Names in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_published_release_verifies_and_the_staged_folder_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("deep/releases");
    let inode = |path: &Path| fs::metadata(path).unwrap().ino();
    let signed = staged(folder.path());
    let staged_disk = inode(&folder.path().join("staged/disk.raw"));
    let release = publish(signed, &to).unwrap();
    assert_eq!(release, to.join("minimal-1.0.0"));
    let report = verified(&release);
    assert!(report.is_good() && report.warnings.is_empty(), "{report:?}");
    assert_eq!(names(&to), ["minimal-1.0.0"]);
    assert_eq!(
        names(folder.path()),
        ["deep"],
        "the staged folder is emptied and removed"
    );
    assert_eq!(
        inode(&release.join("disk.raw")),
        staged_disk,
        "moved, not copied"
    );
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(release.join("disk.raw")), 0o644);
    assert_eq!(
        (mode(release.join("evidence")), mode(release)),
        (0o755, 0o755)
    );
}

#[test]
fn a_release_is_never_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("releases");
    for there in ["file", "empty folder", "release"] {
        let target = to.join("minimal-1.0.0");
        fs::create_dir_all(&to).unwrap();
        match there {
            "file" => fs::write(&target, b"").unwrap(),
            "empty folder" => fs::create_dir(&target).unwrap(),
            _ => drop(publish(staged(folder.path()), &to).unwrap()),
        }
        let error = publish(staged(folder.path()), &to).unwrap_err();
        assert!(
            matches!(error, TargetError::AlreadyThere { .. }),
            "{there}: {error:?}"
        );
        assert!(
            error.help().unwrap().contains("raise `version`"),
            "{error:?}"
        );
        assert_eq!(names(&to), ["minimal-1.0.0"], "{there}");
        assert!(
            folder.path().join("staged/manifest.json.sig").exists(),
            "still there to publish"
        );
        if there == "file" {
            fs::remove_file(target).unwrap()
        } else {
            fs::remove_dir_all(target).unwrap()
        }
    }
}

#[test]
fn an_interrupt_leaves_nothing() {
    struct RaiseAt<'a>(AtomicUsize, usize, &'a Interrupt);
    impl Listener for RaiseAt<'_> {
        fn event(&self, _: Event) {
            if self.0.fetch_add(1, Ordering::Relaxed) == self.1 {
                self.2.raise();
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("releases");
    let signed = staged(folder.path());
    let interrupt = Interrupt::new();
    let listener = RaiseAt(AtomicUsize::new(0), 4, &interrupt);
    let stopped = to_folder(signed, &to, &listener, &interrupt);
    assert!(
        matches!(stopped, Err(TargetError::Interrupted { .. })),
        "{stopped:?}"
    );
    assert_eq!(names(&to), Vec::<String>::new());
    assert!(verified(&folder.path().join("staged")).is_good());
}

#[test]
fn leftovers_of_the_dead_go_and_those_of_the_living_stay() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("releases");
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    let leftover = |name: &str, pid: u32| {
        let path = to.join(format!(".{name}.partial-{pid}"));
        fs::create_dir_all(path.join("evidence")).unwrap();
        fs::write(path.join("evidence/x"), b"x").unwrap();
        path
    };
    let dead = leftover("old-1.0.0", child.id());
    let own = leftover("minimal-1.0.0", std::process::id());
    let alive = leftover("other-1.0.0", std::os::unix::process::parent_id());
    let locked = leftover("busy-1.0.0", child.id());
    let lock = fs::File::open(&locked).unwrap();
    lock.try_lock().unwrap();
    publish(staged(folder.path()), &to).unwrap();
    assert!(!dead.exists() && !own.exists());
    assert!(alive.exists() && locked.exists());
}

/// Kills the process some time after an event.
struct KillAfter {
    seen: AtomicUsize,
    event: usize,
    delay: Duration,
}

impl Listener for KillAfter {
    fn event(&self, _: Event) {
        if self.seen.fetch_add(1, Ordering::Relaxed) != self.event {
            return;
        }
        let delay = self.delay;
        if delay.is_zero() {
            raise(Signal::SIGKILL).unwrap();
        }
        std::thread::spawn(move || {
            std::thread::sleep(delay);
            raise(Signal::SIGKILL).unwrap();
        });
    }
}

/// Not a test by itself: what [`killed_anywhere_leaves_whole_releases_or_none`] runs and kills.
#[test]
fn child_that_publishes() {
    let Some(folder) = std::env::var_os(CHILD).map(PathBuf::from) else {
        return;
    };
    let number = |name| std::env::var(name).unwrap().parse::<u64>().unwrap();
    let listener = KillAfter {
        seen: AtomicUsize::new(0),
        event: usize::try_from(number(KILL_AT)).unwrap(),
        delay: Duration::from_micros(number(KILL_DELAY)),
    };
    let signed = staged(&folder);
    to_folder(
        signed,
        &folder.join("releases"),
        &listener,
        &Interrupt::new(),
    )
    .unwrap();
}

/// Runs the child and kills it `microseconds` after an event; then there must be the whole release
/// or none, and the next run must succeed and leave nothing else. True when it was killed.
fn survives_kill(event: usize, microseconds: u64) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "tests::publishing::child_that_publishes",
            "--test-threads=1",
        ])
        .env(CHILD, folder.path())
        .env(KILL_AT, event.to_string())
        .env(KILL_DELAY, microseconds.to_string())
        .output()
        .unwrap();
    let was_killed = output.status.signal() == Some(9);
    assert!(output.status.success() || was_killed, "{output:?}");
    let to = folder.path().join("releases");
    let release = to.join("minimal-1.0.0");
    if !release.exists() {
        publish(staged(folder.path()), &to).unwrap();
    }
    let report = verified(&release);
    assert!(
        report.is_good(),
        "killed {microseconds} us after event {event}: {report:?}"
    );
    assert_eq!(
        names(&to),
        ["minimal-1.0.0"],
        "killed {microseconds} us after event {event}"
    );
    was_killed
}

#[test]
fn killed_anywhere_leaves_whole_releases_or_none() {
    let killed = (0..).take_while(|event| survives_kill(*event, 0)).count();
    // Started, one per file and signed list, Finished.
    assert_eq!(killed, 12);
    // Between the last file and the end lie syncs, the rename and the emptying of the staging.
    for microseconds in [20, 50, 100, 200, 400, 800, 1600, 3200] {
        survives_kill(10, microseconds);
    }
}

/// A tmpfs mounted for one test; gone when dropped.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    /// None, loudly, where we may not mount.
    fn mount(options: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Self::run(
            "mount",
            &["-t", "tmpfs", "-o", options, "tmpfs"],
            folder.path(),
        );
        if mounted {
            return Some(Self(folder));
        }
        skip("mounting a small tmpfs needs root");
        None
    }

    fn run(program: &str, arguments: &[&str], folder: &Path) -> bool {
        let output = Command::new(program).args(arguments).arg(folder).output();
        output.is_ok_and(|output| output.status.success())
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        assert!(Self::run("umount", &[], self.0.path()));
    }
}

#[test]
fn a_full_disk_is_one_clear_error_and_nothing_is_left() {
    let Some(small) = Tmpfs::mount("size=64k") else {
        return;
    };
    let to = small.0.path().join("releases");
    fs::create_dir(&to).unwrap();
    fs::write(small.0.path().join("ballast"), vec![1; 48 << 10]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let error = publish(staged(folder.path()), &to).unwrap_err();
    assert!(matches!(error, TargetError::Full { .. }), "{error:?}");
    assert!(
        error.to_string().starts_with("no space is left for"),
        "{error}"
    );
    assert_eq!(names(&to), Vec::<String>::new());
    assert!(
        verified(&folder.path().join("staged")).is_good(),
        "staged files stay whole"
    );
    fs::remove_file(small.0.path().join("ballast")).unwrap();
    let release = publish(staged(folder.path()), &to).unwrap();
    assert!(verified(&release).is_good(), "copied across file systems");
}

#[test]
fn a_read_only_folder_is_one_clear_error() {
    let Some(still) = Tmpfs::mount("size=64k,ro") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    for to in [still.0.path().to_owned(), still.0.path().join("releases")] {
        let error = publish(staged(folder.path()), &to).unwrap_err();
        assert!(matches!(error, TargetError::ReadOnly { .. }), "{error:?}");
        assert!(error.help().unwrap().contains("--to"));
    }
}

#[test]
fn a_staged_file_that_vanished_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("releases");
    let signed = staged(folder.path());
    fs::remove_file(folder.path().join("staged/uki.efi")).unwrap();
    let error = publish(signed, &to).unwrap_err();
    assert!(error.to_string().contains("staged/uki.efi"), "{error}");
    assert_eq!(names(&to), Vec::<String>::new());
}
