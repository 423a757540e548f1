//! The stage against real machines: boot sectors of some dozen bytes that each do one thing wrong.

use std::path::{Path, PathBuf};
use std::time::Duration;

use baker_model::plan::{Day, TestPlan};
use baker_model::{Digest, Failure, Interrupt, Silent, Verdict};

use crate::testing::{self, bare_machine, sector};
use crate::{
    Accelerator, AcceleratorChoice, Boot, Disk, DiskBus, Environment, Evidence, Machine, Medium,
    MediumFormat, NeighbourFiles, OnReset, Patience, PlanProblem, Qemu, RunError, Sizes,
    SmokeError, SmokeRequest, Subject, Test, Treatment, Writes, run, smoke,
};

/// Set for the helper process of [`a_killed_baker_leaves_no_qemu`].
const VICTIM: &str = "BAKER_TEST_VICTIM";

struct Bench {
    folder: tempfile::TempDir,
    qemu: Qemu,
    disk: PathBuf,
    digest: Digest,
    patience: Patience,
    treatment: Treatment,
    interrupt: Interrupt,
}

impl Bench {
    fn new(qemu: Qemu, sector: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("disk.raw");
        let mut bytes = sector.to_vec();
        bytes.resize(1 << 20, 0);
        std::fs::write(&disk, &bytes).unwrap();
        let seconds = Duration::from_secs;
        let patience = Patience {
            total: seconds(120),
            silence: seconds(60),
            first_sign: seconds(60),
            stall: seconds(60),
            outside: seconds(1),
            power_off: seconds(1),
            reset: seconds(20),
        };
        let digest = Digest::of(&bytes);
        Self {
            folder,
            qemu,
            disk,
            digest,
            patience,
            treatment: Treatment::default(),
            interrupt: Interrupt::new(),
        }
    }

    fn evidence_folder(&self) -> PathBuf {
        self.folder.path().join("evidence")
    }

    fn run(&self) -> Result<Evidence, SmokeError> {
        let plan = TestPlan {
            memory_mib: 32,
            cpus: 1,
            ..TestPlan::default()
        };
        self.run_plans(&[plan]).map(|mut all| all.remove(0))
    }

    fn subject(&self) -> Subject {
        Subject {
            medium: Some(Medium {
                path: self.disk.clone(),
                format: MediumFormat::Raw,
            }),
            digest: self.digest,
            root_hash: Some(Digest::of(b"root")),
            sizes: Sizes::default(),
            carries_probe: true,
            probe_disk: None,
        }
    }

    fn run_plans(&self, plans: &[TestPlan]) -> Result<Vec<Evidence>, SmokeError> {
        let works: Vec<PathBuf> = (0..plans.len())
            .map(|number| match number {
                0 => self.evidence_folder(),
                _ => self.folder.path().join(format!("evidence-{number}")),
            })
            .collect();
        let pairs = plans.iter().zip(&works);
        let tests: Vec<Test<'_>> = pairs.map(|(plan, work)| Test { plan, work }).collect();
        smoke(&SmokeRequest {
            qemu: &self.qemu,
            accelerator: &AcceleratorChoice {
                accelerator: Accelerator::Tcg,
                reason: "the test says so".into(),
            },
            subject: &self.subject(),
            boot: &Boot::Bios,
            tests: &tests,
            patience: self.patience,
            treatment: &self.treatment,
            today: Day::of_unix(0),
            environment: &Environment::of_process(),
            listener: &Silent,
            interrupt: &self.interrupt,
        })
    }

    fn serial_log(&self) -> String {
        String::from_utf8(std::fs::read(self.evidence_folder().join("serial.log")).unwrap())
            .unwrap()
    }
}

fn failure(evidence: &Evidence) -> (Failure, &str) {
    match &evidence.verdict {
        Verdict::Failed { failure, detail } => (*failure, detail),
        Verdict::Passed => panic!("passed: {evidence:?}"),
    }
}

/// Ids of running programs that have `path` on their command line.
fn programs_with(path: &Path) -> Vec<i32> {
    let name = path.to_str().unwrap();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(|id: &i32| {
        let words = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&words).contains(name)
    })
    .collect()
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1200 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("never: {what}");
}

#[test]
fn each_broken_guest_gets_its_own_name() {
    let Some(qemu) = testing::qemu() else { return };
    let panic = "[    1.0] Kernel panic - not syncing: VFS: no root\r\n";
    let corrupt = "[    1.0] device-mapper: verity: 254:0: data block 7 is corrupted\r\n";
    let rows: [(&str, &[u8], Failure, &str); 5] = [
        (panic, sector::HANG, Failure::KernelPanic, "VFS: no root"),
        (
            corrupt,
            sector::TRIPLE_FAULT,
            Failure::VerityCorruption,
            "data block 7",
        ),
        (
            "hello\r\n",
            sector::TRIPLE_FAULT,
            Failure::GuestReset,
            "restarted",
        ),
        (
            "hello\r\n",
            sector::POWER_OFF,
            Failure::GuestSilent,
            "powered off",
        ),
        (
            "baker1 init-failed code=no-root detail=x%20y\n",
            sector::POWER_OFF,
            Failure::InitFailed,
            "no-root: x y",
        ),
    ];
    for (text, ending, expected, detail) in rows {
        let bench = Bench::new(qemu.clone(), &sector::printing(text, ending));
        let evidence = bench.run().unwrap();
        let (found, found_detail) = failure(&evidence);
        assert_eq!(found, expected, "{text:?}: {found_detail}");
        assert!(found_detail.contains(detail), "{found_detail}");
        assert_eq!(bench.serial_log(), text);
        assert!(programs_with(&bench.disk).is_empty());
    }
}

#[test]
fn a_guest_that_claims_a_pass_on_its_console_is_silent_all_the_same() {
    let Some(qemu) = testing::qemu() else { return };
    let root = Digest::of(b"root");
    let claim =
        format!("baker1 hello root-hash={root}\nbaker1 done state=running root-hash={root}\n");
    let mut bench = Bench::new(qemu, &sector::printing(&claim, sector::HANG));
    bench.patience.silence = Duration::from_secs(1);
    let evidence = bench.run().unwrap();
    let (found, detail) = failure(&evidence);
    assert_eq!(found, Failure::GuestSilent, "{detail}");
    assert!(
        detail.contains("last console line: baker1 done"),
        "{detail}"
    );

    let back: Evidence = serde_json::from_slice(&evidence.to_bytes()).unwrap();
    assert_eq!(back, evidence);
    assert!(evidence.argv.contains(&"-S".to_owned()) && !evidence.command.contains(" -S"));
    assert_eq!(evidence.timeline[0].phase, "firmware");
}

#[test]
fn a_write_by_the_guest_never_reaches_the_disk() {
    let Some(qemu) = testing::qemu() else { return };
    let text = "[    1.0] Kernel panic - not syncing: after the write\r\n";
    let bench = Bench::new(qemu, &sector::writing_then_printing(text, sector::HANG));
    let evidence = bench.run().unwrap();
    // The text comes only after the BIOS said that the write went well.
    assert_eq!(failure(&evidence).0, Failure::KernelPanic);
    assert_eq!(evidence.disk_after, bench.digest);
    assert_eq!(
        Digest::of(&std::fs::read(&bench.disk).unwrap()),
        bench.digest
    );
}

#[test]
fn another_disk_than_promised_is_an_error() {
    let Some(qemu) = testing::qemu() else { return };
    let mut bench = Bench::new(qemu, &sector::printing("", sector::HANG));
    bench.digest = Digest::of(b"promised");
    let error = bench.run().unwrap_err();
    assert!(matches!(error, SmokeError::DiskDiffers { .. }), "{error}");
    assert!(programs_with(&bench.disk).is_empty());
    bench.disk = "/nonexistent/disk.raw".into();
    let error = bench.run().unwrap_err();
    assert!(matches!(error, SmokeError::Disk { .. }), "{error}");
}

/// A plan that stands between `left` and nobody else.
fn between() -> TestPlan {
    let neighbour = "networks = 0\n[[neighbour]]\nname = \"left\"\naddress = \"10.1.0.2/24\"\n";
    toml::from_str(neighbour).unwrap()
}

#[test]
fn neighbours_want_something_to_boot_and_a_qemu_that_connects_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(testing::fake_qemu(folder.path(), "exit 1"), &[]);
    let refused = |bench: &Bench| match bench.run_plans(&[between()]) {
        Err(SmokeError::Plan { problem, .. }) => problem,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&bench), PlanProblem::NoNeighbours);
    bench.treatment.neighbours = Some(NeighbourFiles {
        kernel: "/k".into(),
        initrd: "/i".into(),
    });
    bench.qemu.version.minor = 1;
    let version = bench.qemu.version;
    assert_eq!(refused(&bench), PlanProblem::OldQemu { version });
}

#[test]
fn an_interrupt_ends_the_run_and_qemu() {
    let Some(qemu) = testing::qemu() else { return };
    let bench = Bench::new(qemu, &sector::printing("up\n", sector::HANG));
    std::thread::scope(|scope| {
        let run = scope.spawn(|| bench.run());
        wait_until("QEMU runs", || !programs_with(&bench.disk).is_empty());
        bench.interrupt.raise();
        let error = run.join().unwrap().unwrap_err();
        assert!(matches!(error, SmokeError::Interrupted), "{error}");
    });
    assert!(programs_with(&bench.disk).is_empty());
}

#[test]
fn a_qemu_that_dies_is_named_with_its_last_words() {
    let Some(qemu) = testing::qemu() else { return };
    let bench = Bench::new(qemu, &sector::printing("up\n", sector::HANG));
    std::thread::scope(|scope| {
        let run = scope.spawn(|| bench.run());
        wait_until("the guest runs", || {
            std::fs::read(bench.evidence_folder().join("serial.log"))
                .is_ok_and(|log| !log.is_empty())
        });
        for id in programs_with(&bench.disk) {
            let id = nix::unistd::Pid::from_raw(id);
            nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGKILL).unwrap();
        }
        let evidence = run.join().unwrap().unwrap();
        let (found, detail) = failure(&evidence);
        assert_eq!(found, Failure::QemuDied, "{detail}");
        assert!(detail.contains("signal: 9"), "{detail}");
    });

    let folder = tempfile::tempdir().unwrap();
    let rows = [
        ("echo 'qemu: out of memory' >&2; exit 1", "out of memory"),
        ("exit 0", "exit status: 0"),
        ("sleep 60", "did not connect to its lines within 1 s"),
    ];
    for (script, expected) in rows {
        let fake = testing::fake_qemu(folder.path(), script);
        let mut bench = Bench::new(fake, &sector::printing("", sector::HANG));
        bench.patience.first_sign = Duration::from_secs(1);
        let evidence = bench.run().unwrap();
        let (found, detail) = failure(&evidence);
        assert_eq!(found, Failure::QemuDied, "{detail}");
        assert!(detail.contains(expected), "{detail}");
    }
    let gone = Qemu {
        program: "/nonexistent/qemu".into(),
        ..bench.qemu.clone()
    };
    let error = Bench::new(gone, &[]).run().unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("cannot run /nonexistent/qemu -no-user"),
        "{error}"
    );
}

#[test]
fn a_person_gets_a_machine_that_ends_by_itself_or_when_asked() {
    let Some(qemu) = testing::qemu() else { return };
    let machine = |disk: &Path| Machine {
        threads: crate::Threads::Each,
        disk: Some(Disk {
            medium: Medium {
                path: disk.to_owned(),
                format: MediumFormat::Raw,
            },
            writes: Writes::Discarded,
        }),
        bus: DiskBus::Sata,
        networks: 1,
        on_reset: OnReset::Restart,
        ..bare_machine(Boot::Bios)
    };
    let bench = Bench::new(qemu.clone(), &sector::printing("", sector::POWER_OFF));
    assert!(
        run(&qemu, &machine(&bench.disk), &bench.interrupt)
            .unwrap()
            .success()
    );

    let bench = Bench::new(qemu.clone(), &sector::printing("", sector::TRIPLE_FAULT));
    std::thread::scope(|scope| {
        let person = scope.spawn(|| run(&qemu, &machine(&bench.disk), &bench.interrupt));
        wait_until("QEMU runs", || !programs_with(&bench.disk).is_empty());
        bench.interrupt.raise();
        let error = person.join().unwrap().unwrap_err();
        assert!(matches!(error, RunError::Interrupted), "{error}");
    });
    assert!(programs_with(&bench.disk).is_empty());
}

/// No test by itself: the process that [`a_killed_baker_leaves_no_qemu`] kills.
#[test]
fn victim() {
    let Some(disk) = std::env::var_os(VICTIM) else {
        return;
    };
    let mut bench = Bench::new(
        testing::qemu().unwrap(),
        &sector::printing("up\n", sector::HANG),
    );
    std::fs::copy(&bench.disk, &disk).unwrap();
    bench.disk = disk.into();
    bench.run().unwrap();
}

#[test]
fn a_killed_baker_leaves_no_qemu() {
    if testing::qemu().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("victim.raw");
    let mut baker = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "smoke::tests::victim", "--nocapture"])
        .env(VICTIM, &disk)
        .env("TMPDIR", folder.path())
        .spawn()
        .unwrap();
    // Before the guest runs, QEMU would end by itself: its lines lead nowhere.
    wait_until("the guest runs", || {
        let folders = std::fs::read_dir(folder.path()).unwrap().flatten();
        folders
            .map(|entry| entry.path().join("evidence/serial.log"))
            .any(|log| std::fs::read(log).is_ok_and(|log| !log.is_empty()))
    });
    assert!(!programs_with(&disk).is_empty());
    baker.kill().unwrap();
    baker.wait().unwrap();
    wait_until("QEMU is gone", || programs_with(&disk).is_empty());
}
