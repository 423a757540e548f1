//! What the tests of this room share.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::accelerator::Accelerator;
use crate::architecture::Architecture;
use crate::environment::Environment;
use crate::machine::{
    Boot, DiskBus, Display, Extras, Machine, Network, OnReset, ProbeOffer, Threads, Tpm, Watchdog,
};
use crate::qemu::{Qemu, Version};

/// The QEMU of this host. None, loudly, when there is none; a failure when `BAKER_STRICT` is 1.
pub(crate) fn qemu() -> Option<Qemu> {
    match Qemu::discover(&Environment::of_process(), Architecture::Amd64) {
        Ok(qemu) => Some(qemu),
        Err(error) if std::env::var_os("BAKER_STRICT").is_some_and(|v| v == "1") => {
            panic!("BAKER_STRICT: {error}")
        }
        Err(error) => {
            eprintln!("SKIPPED: {error}");
            None
        }
    }
}

/// A machine with nothing attached.
pub(crate) fn bare_machine(boot: Boot) -> Machine {
    Machine {
        architecture: Architecture::Amd64,
        boot,
        accelerator: Accelerator::Tcg,
        board: "q35".into(),
        cpu: "max".into(),
        threads: Threads::One,
        cpus: 1,
        memory_mib: 32,
        disk: None,
        bus: DiskBus::Virtio,
        probe: ProbeOffer::None,
        networks: 0,
        network: Network::Isolated,
        links: Vec::new(),
        forwards: Vec::new(),
        on_reset: OnReset::Exit,
        display: Display::None,
        watchdog: Watchdog::None,
        extras: Extras::default(),
        tpm: Tpm::None,
        credentials: Vec::new(),
    }
}

/// A program that is no QEMU: a shell script. Only for faults that QEMU cannot be made to show.
pub(crate) fn fake_qemu(folder: &Path, script: &str) -> Qemu {
    let program = folder.join(format!("fake-qemu-{}", script.len()));
    // Written by a shell: a file that this process had open for writing can be busy in another
    // test's forked child.
    let status = std::process::Command::new("sh")
        .args([
            "-c",
            "printf '#!/bin/sh\\n%s\\n' \"$1\" > \"$2\"",
            "sh",
            script,
        ])
        .arg(&program)
        .status()
        .unwrap();
    assert!(status.success());
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    Qemu {
        program,
        version: Version {
            major: 7,
            minor: 2,
            micro: 0,
        },
        architecture: Architecture::Amd64,
    }
}

/// Boot sectors, assembled by hand; loaded at 0x7c00 in real mode.
pub(crate) mod sector {
    /// cli; hlt; jmp back
    pub(crate) const HANG: &[u8] = &[0xfa, 0xf4, 0xeb, 0xfd];

    /// lidt [zeros]; int3: no handler, no handler for that, reset
    pub(crate) const TRIPLE_FAULT: &[u8] = &[0x0f, 0x01, 0x1e, 0xf0, 0x7d, 0xcc, 0xeb, 0xfe];

    /// mov dx, 0x604 (PM1a control of q35); mov ax, 0x2000 (sleep enable, S5); out dx, ax; hang
    pub(crate) const POWER_OFF: &[u8] = &[
        0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef, 0xfa, 0xf4, 0xeb, 0xfd,
    ];

    /// xor ax, ax; mov es, ax; mov ax, 0x0301 (write one sector); mov cx, 2; mov dx, 0x80;
    /// mov bx, 0x7c00; int 0x13; jnc +3; hlt; jmp back
    const WRITE: &[u8] = &[
        0x31, 0xc0, 0x8e, 0xc0, 0xb8, 0x01, 0x03, 0xb9, 0x02, 0x00, 0xba, 0x80, 0x00, 0xbb, 0x00,
        0x7c, 0xcd, 0x13, 0x73, 0x03, 0xf4, 0xeb, 0xfd,
    ];

    /// Prints `text` on the first serial port, then does `ending`.
    pub(crate) fn printing(text: &str, ending: &[u8]) -> Vec<u8> {
        build(&[], text, ending)
    }

    /// Overwrites the second sector of the disk; prints only when that went well.
    pub(crate) fn writing_then_printing(text: &str, ending: &[u8]) -> Vec<u8> {
        build(WRITE, text, ending)
    }

    fn build(beginning: &[u8], text: &str, ending: &[u8]) -> Vec<u8> {
        let mut code = beginning.to_vec();
        // 3 (xor, mov: 4) + 3 (mov si) + 1 (cld) + 11 (loop)
        let message = 0x7c00 + beginning.len() + 4 + 3 + 1 + 11 + ending.len();
        let [low, high] = u16::try_from(message).unwrap().to_le_bytes();
        code.extend([0x31, 0xc0, 0x8e, 0xd8]); // xor ax, ax; mov ds, ax
        code.extend([0xbe, low, high, 0xfc]); // mov si, message; cld
        code.extend([0xac, 0x84, 0xc0, 0x74, 0x06]); // 1: lodsb; test al, al; jz 2f
        code.extend([0xba, 0xf8, 0x03, 0xee, 0xeb, 0xf5]); // mov dx, 0x3f8; out dx, al; jmp 1b; 2:
        code.extend(ending);
        code.extend(text.as_bytes());
        assert!(code.len() < 0x1f0, "the zeros at 0x7df0 must stay zeros");
        code.resize(510, 0);
        code.extend([0x55, 0xaa]);
        code
    }
}
