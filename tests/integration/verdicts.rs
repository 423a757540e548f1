//! Images with one fault each, and the one right name for each fault.
//!
//! All are private copies of one bake: altered on the disk, or by what the guest is told on its
//! command line. `BAKER_FIXTURES=all` runs all instead of the quick ones, or names some, divided
//! by commas; `BAKER_SOAK=10` runs each that often and prints a table (see `scripts/soak`).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use baker_model::plan::{FileCheck, FileState, Firmware};
use baker_tests::bakery::{Locked, minimal, minimal_draft, seated};
use baker_tests::fixture::Broken;

use Firmware::{Direct, Uefi};
use Speed::{Quick, Slow};

/// Whether a fixture runs when nobody asks for it.
#[derive(Clone, Copy, PartialEq)]
enum Speed {
    Quick,
    Slow,
}

/// One fault.
struct Fixture {
    name: &'static str,
    speed: Speed,
    firmware: Firmware,
    /// Name of the failure, `passed` for none.
    verdict: &'static str,
    /// Text in the verdict's detail.
    says: &'static str,
    fault: fn(&mut Broken),
}

/// What one run said.
struct Answer {
    verdict: String,
    detail: String,
    detection: u64,
    console: String,
}

const fn row(
    name: &'static str,
    speed: Speed,
    firmware: Firmware,
    verdict: &'static str,
    says: &'static str,
    fault: fn(&mut Broken),
) -> Fixture {
    Fixture {
        name,
        speed,
        firmware,
        verdict,
        says,
        fault,
    }
}

/// A unit that is done at once or never.
const ONE_SHOT: &str = "[Service]\nType=oneshot\nExecStart=/nowhere\n";

/// One of the first units that systemd starts at all.
const EARLY_ONE_SHOT: &str =
    "[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nExecStart=/nowhere\n";

const FIXTURES: [Fixture; 28] = [
    row("good", Slow, Direct, "passed", "", |_| {}),
    row("good-uefi", Slow, Uefi, "passed", "", |_| {}),
    row(
        "flipped-root",
        Quick,
        Direct,
        "verity-corruption",
        "verity",
        |image| {
            image.flip(image.place("EROFS superblock").start);
        },
    ),
    row(
        "flipped-data",
        Slow,
        Direct,
        "verity-corruption",
        "verity",
        |image| {
            let init = image.place("EROFS file data of /usr/lib/systemd/systemd");
            image.flip(init.start + 4096);
        },
    ),
    row(
        "unread-data",
        Slow,
        Direct,
        "verity-corruption",
        "verity",
        |image| {
            image.plan().root_readable = true;
            image.flip(image.place("EROFS file data of /usr/bin/udevadm").end - 1);
        },
    ),
    row(
        "flipped-tree",
        Quick,
        Direct,
        "verity-corruption",
        "verity",
        |image| {
            image.flip(image.place("level 0").start);
        },
    ),
    row(
        "flipped-tree-superblock",
        Slow,
        Direct,
        "verity-corruption",
        "verity",
        |image| {
            image.flip(image.place("_verity superblock").start);
        },
    ),
    row(
        "wrong-root-hash",
        Slow,
        Direct,
        "init-failed",
        "no-root",
        |image| {
            let right = image.manifest.root_hash.to_string();
            let wrong = format!("{}{}", "00", &right[2..]);
            image.manifest.command_line = image.manifest.command_line.replace(&right, &wrong);
            image.command_line("baker.root-wait=3");
        },
    ),
    row(
        "no-init",
        Quick,
        Direct,
        "init-failed",
        "handover",
        |image| {
            image.command_line("init=/nowhere");
        },
    ),
    row(
        "no-table",
        Quick,
        Direct,
        "init-failed",
        "no-root",
        |image| {
            for header in image.places("GPT header") {
                image.write(header.start, &[0; 92]);
            }
            image.command_line("baker.root-wait=3");
        },
    ),
    row(
        "no-table-uefi",
        Slow,
        Uefi,
        "firmware-refused",
        "",
        |image| {
            for header in image.places("GPT header") {
                image.write(header.start, &[0; 92]);
            }
        },
    ),
    row(
        "junk-on-esp",
        Quick,
        Uefi,
        "firmware-refused",
        "",
        |image| {
            let (start, end) = (
                image.place("ESP boot sector notes").start,
                image.place("EROFS boot area").start,
            );
            image.junk(start..end);
        },
    ),
    row("no-loader", Slow, Uefi, "firmware-refused", "", |image| {
        // Long and short name are entries of their own; one of them would do.
        let entries = image.place("entry of /EFI/BOOT/BOOTX64.EFI");
        for entry in entries.step_by(32) {
            image.write(entry, b"\xe5");
        }
    }),
    row("junk-loader", Slow, Uefi, "firmware-refused", "", |image| {
        image.junk(image.place("BOOTX64.EFI PE headers"));
    }),
    row("junk-kernel", Slow, Uefi, "loader-failed", "", |image| {
        let kernel = image.place("section .linux");
        let middle = kernel.start + (kernel.end - kernel.start) / 2;
        image.junk(middle..middle + 65_536);
    }),
    row(
        "hanging-loader",
        Slow,
        Uefi,
        "guest-silent",
        "loader",
        |image| image.hang_loader(),
    ),
    row("little-memory", Slow, Direct, "guest-reset", "", |image| {
        image.plan().memory_mib = 64;
    }),
    row(
        "panic",
        Quick,
        Direct,
        "kernel-panic",
        "sysrq triggered crash",
        |image| {
            image.writes(&[("/proc/sysrq-trigger", "c")]);
        },
    ),
    row("oops", Quick, Direct, "kernel-oops", "BUG: ", |image| {
        // The first line of an oops in the kernel's log; a real one needs a faulty module.
        let line = "<1>BUG: unable to handle page fault for address: ffffa0ce00000000";
        image.writes(&[("/dev/kmsg", line)]);
    }),
    row("reset", Quick, Direct, "guest-reset", "", |image| {
        image.writes(&[("/proc/sysrq-trigger", "b")]);
    }),
    row(
        "early-power-off",
        Slow,
        Direct,
        "guest-silent",
        "",
        |image| {
            image.writes(&[("/proc/sysrq-trigger", "o")]);
        },
    ),
    row("forged-pass", Slow, Direct, "guest-silent", "", |image| {
        let line = "<1>baker1 done nonce=00000000000000000000000000000000 state=running";
        image.writes(&[("/dev/kmsg", line), ("/proc/sysrq-trigger", "o")]);
    }),
    row(
        "failing-unit",
        Quick,
        Direct,
        "unit-failed",
        "broken.service",
        |image| {
            image.unit("broken.service", ONE_SHOT);
        },
    ),
    row(
        "early-failing-unit",
        Slow,
        Direct,
        "unit-failed",
        "early.service",
        |image| {
            image.unit("early.service", EARLY_ONE_SHOT);
        },
    ),
    row(
        "late-failing-unit",
        Slow,
        Direct,
        "unit-failed",
        "late.service",
        |image| {
            let unit = "[Service]\nExecStart=/usr/bin/udevadm monitor\nRuntimeMaxSec=1\n";
            image.unit("late.service", unit);
        },
    ),
    row(
        "hanging-unit",
        Slow,
        Direct,
        "timed-out",
        "hang.service",
        |image| {
            let unit = "[Unit]\nBefore=multi-user.target\n[Service]\nType=notify\n\
                    TimeoutStartSec=infinity\nExecStart=/usr/bin/udevadm monitor\n";
            image.unit("hang.service", unit);
        },
    ),
    row(
        "false-assertion",
        Quick,
        Direct,
        "assertion-failed",
        "/nowhere",
        |image| {
            image.plan().files = vec![FileCheck {
                path: "/nowhere".into(),
                state: FileState::Present,
                content: None,
                contains: None,
                mode: None,
                owner: None,
                group: None,
            }];
        },
    ),
    row(
        "over-budget",
        Slow,
        Direct,
        "budget-exceeded",
        "",
        |image| {
            image.plan().budget.guest_seconds = Some(1);
        },
    ),
];

/// The fixtures asked for.
fn chosen() -> Vec<&'static Fixture> {
    static ALL: [Fixture; 28] = FIXTURES;
    let asked = std::env::var("BAKER_FIXTURES").unwrap_or_default();
    let wanted = |fixture: &&Fixture| match asked.as_str() {
        "" => fixture.speed == Quick,
        "all" => true,
        names => names.split(',').any(|name| name == fixture.name),
    };
    ALL.iter().filter(wanted).collect()
}

/// Boots a fixture once.
fn answer(fixture: &Fixture, folder: &Path) -> Answer {
    let baker = &minimal().baker;
    let evidence = folder.join("evidence");
    drop(fs::remove_dir_all(&evidence));
    let arguments = ["test".as_ref(), folder.as_os_str()];
    let options = ["--evidence".as_ref(), evidence.as_os_str()];
    let said = seated(|| baker.run(arguments.into_iter().chain(options)));
    let folder = find_report(&evidence)
        .unwrap_or_else(|| panic!("{} left no evidence: {said:#?}", fixture.name));
    read_answer(&folder)
}

/// The folder of the one test's evidence.
fn find_report(folder: &Path) -> Option<PathBuf> {
    for entry in fs::read_dir(folder).ok()?.flatten() {
        let path = entry.path();
        let found = match path.is_dir() {
            true => find_report(&path),
            false => path
                .ends_with("fixture/report.json")
                .then(|| folder.to_owned()),
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

fn read_answer(folder: &Path) -> Answer {
    let report = fs::read(folder.join("report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
    let console = fs::read(folder.join("serial.log")).unwrap_or_default();
    let verdict = &report["verdict"];
    let text = |key: &str| verdict[key].as_str().unwrap_or_default().to_owned();
    Answer {
        verdict: match text("verdict").as_str() {
            "failed" => text("failure"),
            other => other.to_owned(),
        },
        detail: text("detail"),
        detection: report["detection-milliseconds"].as_u64().unwrap(),
        console: String::from_utf8_lossy(&console).into_owned(),
    }
}

/// What became of all runs of a fixture.
#[derive(Default)]
struct Tally {
    verdicts: BTreeMap<String, usize>,
    detections: Vec<u64>,
    wrong: Vec<String>,
}

impl Tally {
    /// Gives what is worth looking at: the console of a wrong verdict.
    fn add(&mut self, fixture: &Fixture, answer: Answer) -> Option<String> {
        let Answer {
            verdict,
            detail,
            detection,
            console,
        } = answer;
        self.detections.push(detection);
        *self.verdicts.entry(verdict.clone()).or_default() += 1;
        if verdict == fixture.verdict && detail.contains(fixture.says) {
            return None;
        }
        let wanted = format!("{} ({})", fixture.verdict, fixture.says);
        let text = format!("{}: {verdict}: {detail}; wanted {wanted}", fixture.name);
        self.wrong.push(text.clone());
        Some(format!("{text}; its console:\n{console}"))
    }

    fn line(&mut self, fixture: &Fixture) -> String {
        self.detections.sort_unstable();
        let at = |part: usize| self.detections[(self.detections.len() - 1) * part / 2];
        let counts = self
            .verdicts
            .iter()
            .map(|(name, count)| format!("{name} {count}"));
        let counts = counts.collect::<Vec<_>>().join(", ");
        let [least, middle, most] = [at(0), at(1), at(2)];
        format!(
            "| {} | {} | {counts} | {least} / {middle} / {most} |",
            fixture.name, fixture.verdict
        )
    }
}

#[test]
fn every_fixture_has_its_own_verdict() {
    let rounds = std::env::var("BAKER_SOAK").map_or(1, |text| text.parse().unwrap());
    let mut wrong = Vec::new();
    let mut lines = vec![
        "| fixture | wanted | verdicts | detected after ms (least / middle / most) |".to_owned(),
        "|---|---|---|---|".to_owned(),
    ];
    let home = minimal().baker.home();
    for fixture in chosen() {
        let folder = home.join(format!("fixture-{}", fixture.name));
        let mut image = Broken::new(minimal_draft(), &folder, fixture.firmware);
        (fixture.fault)(&mut image);
        let folder = image.finish();
        let mut tally = Tally::default();
        for round in 1..=rounds {
            let wrong = tally.add(fixture, answer(fixture, &folder));
            let said = wrong.unwrap_or_default();
            eprintln!("{} {round} of {rounds} {said}", fixture.name);
        }
        lines.push(tally.line(fixture));
        wrong.append(&mut tally.wrong);
        fs::remove_dir_all(&folder).unwrap();
    }
    eprintln!("{}", lines.join("\n"));
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_kernel_without_its_root_driver_has_no_root() {
    let locked = Locked::new("minimal", |text| {
        text.replace(
            "modules = [\"virtio_blk\", \"virtio_scsi\", \"ahci\", \"nvme\"]",
            "modules = []",
        )
        .replace("\"panic=-1\"", "\"panic=-1\", \"baker.root-wait=3\"")
    });
    let draft = locked.bake(&locked.baker.home().join("drafts"));
    let folder = locked.baker.home().join("no-driver");
    let folder = Broken::new(&draft, &folder, Direct).finish();
    let said = seated(|| locked.baker.run(["test".as_ref(), folder.as_os_str()]));
    said.assert(6, &["init-failed", "no-root"]);
}

#[test]
fn a_killed_qemu_has_died() {
    let folder = minimal().baker.home().join("killed");
    let folder = Broken::new(minimal_draft(), &folder, Direct).finish();
    let evidence = folder.join("evidence");
    let arguments = [
        "test".as_ref(),
        folder.as_os_str(),
        "--evidence".as_ref(),
        evidence.as_os_str(),
    ];
    let killed = seated(|| {
        let mut command = minimal().baker.command(arguments);
        let mut baker = command.stderr(Stdio::null()).spawn().unwrap();
        let killed = kill_qemu_of(baker.id(), &evidence);
        baker.wait().unwrap();
        killed
    });
    assert!(killed, "no QEMU ran");
    let answer = read_answer(&find_report(&evidence).unwrap());
    assert_eq!(answer.verdict, "qemu-died", "{}", answer.detail);
}

/// A child of any thread of the process.
fn child_of(parent: u32) -> Option<String> {
    let tasks = fs::read_dir(format!("/proc/{parent}/task")).ok()?;
    let children = |task: fs::DirEntry| fs::read_to_string(task.path().join("children")).ok();
    let lists: Vec<String> = tasks.flatten().filter_map(children).collect();
    let mut all = lists.iter().flat_map(|list| list.split_whitespace());
    all.next().map(str::to_owned)
}

/// Kills the QEMU below the process `parent` once its guest has said something; false when there
/// was none within two minutes.
fn kill_qemu_of(parent: u32, evidence: &Path) -> bool {
    for _ in 0..1200 {
        std::thread::sleep(Duration::from_millis(100));
        let log = evidence.join("minimal-1.0.0/fixture/serial.log");
        if fs::metadata(log).map_or(0, |log| log.len()) == 0 {
            continue;
        }
        let Some(child) = child_of(parent) else {
            continue;
        };
        let status = std::process::Command::new("kill")
            .args(["-KILL", &child])
            .status();
        return status.is_ok_and(|status| status.success());
    }
    false
}
