//! What a line of the console means.
//!
//! Texts were taken from Linux 6.12 (`kernel/panic.c`, `arch/x86/kernel/dumpstack.c`,
//! `drivers/md/dm-verity-target.c`), systemd 257, EDK II (`BdsEntry.c`) and from boots that failed.
//! A guest can print any of them without cause; that costs it its pass and nothing else.

use baker_contract::{FAILING_UNITS, Init, InitFailure, Line};
use baker_model::Failure;

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// A failure of this kind.
    Failure(Failure),
    /// The init of the initramfs gave up.
    InitFailed(Failure, String),
    /// A unit failed to start; it may still be started again.
    UnitHint,
    /// Something that explains a failure which may follow.
    Cause,
    /// The host was at fault, not the guest.
    Flake(&'static str),
    /// The firmware hands over to a loader.
    Loader,
    /// The kernel runs.
    Kernel,
    /// `/init` runs.
    InitStarted,
    /// systemd is about to run.
    Handover,
    /// Nothing that matters here.
    Nothing,
}

/// Texts that say why a failure follows, without being one: too little memory
/// (`init/initramfs.c`, `mm/oom_kill.c`), a CPU that the image's C library refuses.
const CAUSES: [&str; 3] = [
    "Initramfs unpacking failed",
    "Out of memory: Killed process",
    "Fatal glibc error: CPU does not support",
];

/// Reads a line without escape sequences. `booting` is true until the kernel has spoken: texts of
/// firmware and loaders mean nothing after that.
pub(crate) fn meaning(line: &str, booting: bool) -> Meaning {
    if let Some(line) = Line::parse(line) {
        return init_line(Init::from_line(line));
    }
    let message = without_time(line);
    if let Some(cause) = flake(message) {
        return Meaning::Flake(cause);
    }
    if let Some(failure) = kernel_failure(message).or_else(|| systemd_failure(message)) {
        return Meaning::Failure(failure);
    }
    if CAUSES.iter().any(|text| message.contains(text)) {
        return Meaning::Cause;
    }
    if message.starts_with("[FAILED]") {
        return Meaning::UnitHint;
    }
    if message.starts_with("Linux version ") {
        return Meaning::Kernel;
    }
    if !booting {
        return Meaning::Nothing;
    }
    match firmware_failure(message) {
        Some(failure) => Meaning::Failure(failure),
        None if message.contains("BdsDxe: starting Boot") => Meaning::Loader,
        None if message.contains("EFI stub: ") => Meaning::Loader,
        None => Meaning::Nothing,
    }
}

/// The unit that a `[FAILED]` line names; none when it has only a description (`StatusUnitFormat=`
/// of systemd).
pub(crate) fn unit_of(line: &str) -> Option<&str> {
    let words = line
        .split_whitespace()
        .map(|word| word.trim_end_matches('.'));
    let is_unit = |word: &&str| {
        let kind = word.rsplit_once('.').filter(|(name, _)| !name.is_empty());
        kind.is_some_and(|(_, kind)| FAILING_UNITS.contains(&kind))
    };
    words.into_iter().find(is_unit)
}

fn init_line(init: Init) -> Meaning {
    match init {
        Init::Started => Meaning::InitStarted,
        Init::Handover => Meaning::Handover,
        Init::Failed { code, detail } => {
            let failure = match code {
                InitFailure::Verity => Failure::VerityCorruption,
                _ => Failure::InitFailed,
            };
            Meaning::InitFailed(failure, format!("{}: {detail}", code.name()))
        }
        Init::Unknown(_) => Meaning::Nothing,
    }
}

/// The message after the kernel's time stamp (`[    1.234567] `) and task (`[  T1] `), if any.
pub(crate) fn without_time(line: &str) -> &str {
    let mut rest = line.trim_start();
    while let Some((inside, after)) = rest.strip_prefix('[').and_then(|r| r.split_once("] ")) {
        let stamp = inside.trim_start_matches([' ', 'T', 'C']);
        if stamp.is_empty()
            || !stamp
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte == b'.')
        {
            break;
        }
        rest = after.trim_start();
    }
    rest
}

fn kernel_failure(message: &str) -> Option<Failure> {
    let verity = message.contains("dm-verity device corrupted")
        || (message.contains("device-mapper: verity") && message.contains("is corrupted"));
    if verity {
        return Some(Failure::VerityCorruption);
    }
    if message.starts_with("Kernel panic - not syncing") {
        return Some(Failure::KernelPanic);
    }
    // A lockup report says that the host did not run the CPU for a while; nothing is broken.
    let bug = message.starts_with("BUG: ") && !message.contains("lockup");
    let oops = bug
        || message.starts_with("Oops: ")
        || message.starts_with("kernel BUG at ")
        || message.starts_with("Internal error: Oops")
        // The header of `__die`: the error code and the count of oopses.
        || message.contains(": 0000 [#");
    oops.then_some(Failure::KernelOops)
}

fn systemd_failure(message: &str) -> Option<Failure> {
    // PID 1 marks what it cannot survive with these six, then it freezes.
    if message.contains("[!!!!!!]") || message.contains("Freezing execution") {
        return Some(Failure::InitFailed);
    }
    let emergency = ["You are in emergency mode", "You are in rescue mode"];
    emergency
        .iter()
        .any(|text| message.contains(text))
        .then_some(Failure::UnitFailed)
}

fn firmware_failure(message: &str) -> Option<Failure> {
    const REFUSED: [&str; 6] = [
        "bdsdxe: failed to load",
        "no bootable option or device",
        "no bootable device",
        "access denied",
        "security violation",
        "uefi interactive shell",
    ];
    const LOADER: [&str; 6] = [
        // The firmware took the loader, and the loader came back.
        "bdsdxe: failed to start",
        "efi stub: error",
        "error loading ",
        "error starting ",
        "failed to start image",
        "failed to execute ",
    ];
    let lower = message.to_ascii_lowercase();
    let says = |texts: &[&str]| texts.iter().any(|text| lower.contains(text));
    if says(&REFUSED) {
        Some(Failure::FirmwareRefused)
    } else if says(&LOADER) {
        Some(Failure::LoaderFailed)
    } else {
        None
    }
}

/// Texts of two known faults of emulation.
fn flake(message: &str) -> Option<&'static str> {
    if message.contains("IO-APIC + timer doesn't work") {
        return Some("the emulated CPU was starved during the timer check");
    }
    // QEMU before 8 with cx16: an address in the flags. The register has 32 bits in use.
    let digits = message
        .split_once("EFLAGS: ")?
        .1
        .split_ascii_whitespace()
        .next()?;
    let flags = u64::from_str_radix(digits, 16).ok()?;
    (flags > u64::from(u32::MAX)).then_some("the emulated EFLAGS held garbage")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(failure: Failure) -> Meaning {
        Meaning::Failure(failure)
    }

    fn check(rows: &[(&str, Meaning)]) {
        for (line, expected) in rows {
            assert_eq!(meaning(line, true), *expected, "{line}");
        }
    }

    #[test]
    fn lines_of_the_kernel_have_their_meaning() {
        let rows = [
            (
                "[    2.1] Kernel panic - not syncing: VFS: Unable",
                failure(Failure::KernelPanic),
            ),
            (
                "[    9.8] Kernel panic - not syncing: dm-verity device corrupted",
                failure(Failure::VerityCorruption),
            ),
            (
                "[    3.0] device-mapper: verity: 254:0: data block 5 is corrupted",
                failure(Failure::VerityCorruption),
            ),
            (
                "[   1.0][    T1] reboot: Restarting system with command 'dm-verity device corrupted'",
                failure(Failure::VerityCorruption),
            ),
            (
                "[    1.2] BUG: unable to handle page fault for address: ffff",
                failure(Failure::KernelOops),
            ),
            (
                "[    1.2] Oops: 0002 [#1] PREEMPT SMP NOPTI",
                failure(Failure::KernelOops),
            ),
            (
                "[    1.2] traps: PANIC: double fault: 0000 [#1] SMP",
                failure(Failure::KernelOops),
            ),
            (
                "[   30.2] watchdog: BUG: soft lockup - CPU#0 stuck for 22s!",
                Meaning::Nothing,
            ),
            (
                "[   30.2] BUG: workqueue lockup - pool cpus=0",
                Meaning::Nothing,
            ),
            (
                "[    1.2] RSP: 0018:ffff EFLAGS: 00010246",
                Meaning::Nothing,
            ),
            (
                "[    1.2] RSP: 0018:ffff EFLAGS: ffff888003c01246",
                Meaning::Flake("the emulated EFLAGS held garbage"),
            ),
            (
                "[    0.5] Kernel panic - not syncing: IO-APIC + timer doesn't work!  Boot with",
                Meaning::Flake("the emulated CPU was starved during the timer check"),
            ),
        ];
        check(&rows);
    }

    #[test]
    fn lines_of_init_and_systemd_have_their_meaning() {
        let rows = [
            (
                "[!!!!!!] Failed to mount API filesystems.",
                failure(Failure::InitFailed),
            ),
            (
                "[    4.0] systemd[1]: Freezing execution.",
                failure(Failure::InitFailed),
            ),
            (
                "You are in emergency mode. After logging in",
                failure(Failure::UnitFailed),
            ),
            (
                "[FAILED] Failed to start nginx.service - x.",
                Meaning::UnitHint,
            ),
            ("[    0.000000] Linux version 6.12.107", Meaning::Kernel),
            ("[    1.3] baker1 init-started", Meaning::InitStarted),
            ("[    2.3] baker1 init-handover", Meaning::Handover),
            (
                "baker1 init-failed code=verity detail=bad",
                Meaning::InitFailed(Failure::VerityCorruption, "verity: bad".into()),
            ),
            (
                "baker1 init-failed code=no-root detail=a%20b",
                Meaning::InitFailed(Failure::InitFailed, "no-root: a b".into()),
            ),
            (
                "[    0.9] Initramfs unpacking failed: write error",
                Meaning::Cause,
            ),
            (
                "[    9.0] Out of memory: Killed process 1 (systemd)",
                Meaning::Cause,
            ),
            (
                "[  OK  ] Reached target multi-user.target",
                Meaning::Nothing,
            ),
        ];
        check(&rows);
    }

    #[test]
    fn failed_units_are_named_by_their_lines() {
        let rows = [
            (
                "[FAILED] Failed to start nginx.service - A web. server.",
                Some("nginx.service"),
            ),
            ("[FAILED] Failed to mount srv.mount.", Some("srv.mount")),
            ("[FAILED] Failed to start A high performance server.", None),
            ("[FAILED] Failed to start .service.", None),
        ];
        for (line, expected) in rows {
            assert_eq!(unit_of(line), expected, "{line}");
        }
    }

    #[test]
    fn firmware_texts_count_only_before_the_kernel() {
        let rows = [
            (
                "BdsDxe: failed to load Boot0001 \"x\" from PciRoot(0x0): Access Denied",
                Failure::FirmwareRefused,
            ),
            (
                "BdsDxe: No bootable option or device was found.",
                Failure::FirmwareRefused,
            ),
            (
                "BdsDxe: failed to start Boot0001 \"x\" from PciRoot(0x0): Load Error",
                Failure::LoaderFailed,
            ),
            (
                "Error loading \\EFI\\Linux\\x.efi: Access denied",
                Failure::FirmwareRefused,
            ),
            (
                "Error loading \\EFI\\Linux\\x.efi: Load error",
                Failure::LoaderFailed,
            ),
            (
                "EFI stub: ERROR: Failed to alloc kernel memory",
                Failure::LoaderFailed,
            ),
            ("UEFI Interactive Shell v2.2", Failure::FirmwareRefused),
        ];
        for (line, expected) in rows {
            assert_eq!(meaning(line, true), failure(expected), "{line}");
            assert_eq!(meaning(line, false), Meaning::Nothing, "{line}");
        }
        let starting = "BdsDxe: starting Boot0001 \"UEFI Misc Device\" from PciRoot(0x0)";
        assert_eq!(meaning(starting, true), Meaning::Loader);
    }
}
