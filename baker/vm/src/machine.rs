//! A machine as plain data, and the QEMU command line it stands for.
//!
//! Pure: takes settings, gives arguments; looks at no file and at no host.

use std::ffi::OsString;
use std::path::PathBuf;

use baker_contract::PROBE_PORT;

use crate::accelerator::Accelerator;
use crate::arguments::Arguments;
use crate::ovmf::Ovmf;

/// Skips the kernel's check of the 8254 timer, which fails (a panic, "IO-APIC + timer doesn't
/// work") when an emulated CPU is starved at the wrong moment.
const NO_TIMER_CHECK: &str = "no_timer_check";

/// A machine: what it boots, how large it is, what it is attached to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// What starts the guest.
    pub boot: Boot,
    /// Who runs its instructions.
    pub accelerator: Accelerator,
    /// CPU model, [`crate::Qemu::cpu_model`].
    pub cpu: String,
    /// Number of CPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// The raw disk; never written, a throwaway overlay takes all writes.
    pub disk: PathBuf,
    /// How the disk is attached.
    pub bus: Bus,
    /// What the guest reaches.
    pub network: Network,
    /// TCP ports of the guest that are reachable on loopback ports of the host.
    pub forwards: Vec<Forward>,
    /// What a reset of the guest does.
    pub on_reset: OnReset,
}

/// What starts the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Boot {
    /// QEMU loads kernel and initrd itself.
    Direct(DirectBoot),
    /// OVMF boots the disk.
    Uefi(Ovmf),
    /// OVMF boots the disk and enforces Secure Boot: [`Ovmf::discover_secure`]'s code, and as
    /// variables a file with the keys enrolled.
    UefiSecure(Ovmf),
    /// QEMU's own BIOS boots the disk.
    Bios,
}

/// Kernel, initrd and command line of a direct boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectBoot {
    /// The kernel image.
    pub kernel: PathBuf,
    /// The initramfs.
    pub initrd: PathBuf,
    /// The kernel command line.
    pub append: String,
}

/// How the disk is attached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Bus {
    /// virtio-blk.
    #[default]
    Virtio,
    /// NVMe.
    Nvme,
    /// SATA behind AHCI.
    Sata,
    /// SCSI behind virtio-scsi.
    Scsi,
}

/// What the guest reaches by user networking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Nothing; only forwarded ports reach it.
    Isolated,
    /// Whatever the host reaches.
    Open,
}

/// A guest port made reachable from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// Port on 127.0.0.1; 0 lets the kernel choose, [`crate::run`] callers name one.
    pub host: u16,
    /// Port of the guest.
    pub guest: u16,
}

/// What a reset of the guest does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnReset {
    /// QEMU ends and says so.
    Exit,
    /// The machine starts again.
    Restart,
}

/// Who is at the other end of the machine's console and control lines.
#[derive(Debug, Clone, Copy)]
pub enum Attachment<'a> {
    /// baker: QEMU connects to these sockets and waits, stopped, for `cont`.
    Observed(&'a Sockets),
    /// A person: console and monitor share the terminal, Ctrl-A X quits.
    Terminal,
}

/// Unix sockets that baker listens on, and the console log that QEMU keeps.
///
/// QEMU is the client, so that nobody polls for a socket that is about to appear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sockets {
    /// QMP.
    pub qmp: PathBuf,
    /// First serial port.
    pub serial: PathBuf,
    /// virtio-serial port of the probe.
    pub probe: PathBuf,
    /// Copy of all console bytes, written by QEMU itself: complete whatever happens to baker.
    pub serial_log: PathBuf,
}

impl Machine {
    /// The arguments for QEMU, without the program.
    #[must_use]
    pub fn argv(&self, attachment: Attachment<'_>) -> Vec<OsString> {
        let mut arguments = Arguments::default();
        arguments.flag("-no-user-config").flag("-nodefaults");
        arguments.pair("-name", "baker").pair("-display", "none");
        self.base(&mut arguments);
        self.boot(&mut arguments);
        self.disk(&mut arguments);
        self.network(&mut arguments);
        arguments.pair("-device", "pvpanic-pci");
        // The kernel prints its reason before it tells the device; `none` lets the text through
        // and baker end the machine.
        arguments.pair("-action", "panic=none");
        if self.on_reset == OnReset::Exit {
            arguments.flag("-no-reboot");
        }
        match attachment {
            Attachment::Observed(sockets) => sockets.attach(&mut arguments),
            Attachment::Terminal => {
                arguments.pair("-chardev", "stdio,id=console,mux=on,signal=off");
                arguments.pair("-serial", "chardev:console");
                arguments.pair("-mon", "chardev=console,mode=readline");
            }
        }
        arguments.finish()
    }

    fn base(&self, arguments: &mut Arguments) {
        // Firmware that keeps its keys safe from the kernel does so in system management mode.
        let secure = matches!(self.boot, Boot::UefiSecure(_));
        arguments.pair("-machine", if secure { "q35,smm=on" } else { "q35" });
        let accelerator = match self.accelerator {
            Accelerator::Kvm => "kvm",
            Accelerator::Tcg => "tcg,thread=multi",
        };
        arguments.pair("-accel", accelerator);
        arguments.pair("-cpu", &self.cpu);
        arguments.pair("-smp", self.cpus.to_string());
        arguments.pair("-m", self.memory_mib.to_string());
    }

    fn boot(&self, arguments: &mut Arguments) {
        let emulated = self.accelerator == Accelerator::Tcg;
        match &self.boot {
            Boot::Direct(direct) => {
                arguments
                    .pair("-kernel", &direct.kernel)
                    .pair("-initrd", &direct.initrd);
                let mut append = direct.append.clone();
                if emulated && !append.split_ascii_whitespace().any(|w| w == NO_TIMER_CHECK) {
                    append.push(' ');
                    append.push_str(NO_TIMER_CHECK);
                }
                arguments.pair("-append", append.trim_start());
            }
            Boot::Uefi(ovmf) | Boot::UefiSecure(ovmf) => {
                if matches!(self.boot, Boot::UefiSecure(_)) {
                    // Only code in system management mode may write to the variable store.
                    let secure = "driver=cfi.pflash01,property=secure,value=on";
                    arguments.pair("-global", secure);
                }
                arguments.drive("if=pflash,unit=0,format=raw,readonly=on", &ovmf.code);
                arguments.drive("if=pflash,unit=1,format=raw,snapshot=on", &ovmf.vars);
                if emulated {
                    // systemd-stub appends this to the signed command line and measures it.
                    let text = format!(
                        "type=11,value=io.systemd.stub.kernel-cmdline-extra={NO_TIMER_CHECK}"
                    );
                    arguments.pair("-smbios", text);
                }
            }
            Boot::Bios => {}
        }
        if !matches!(self.boot, Boot::Direct(_)) {
            // Only what has a boot index is tried: no network boot after a disk that fails.
            arguments.pair("-boot", "strict=on");
        }
    }

    fn disk(&self, arguments: &mut Arguments) {
        arguments.drive("if=none,id=disk,format=raw,snapshot=on", &self.disk);
        let device = match self.bus {
            Bus::Virtio => "virtio-blk-pci,drive=disk,bootindex=1",
            Bus::Nvme => "nvme,drive=disk,serial=baker,bootindex=1",
            Bus::Sata => "ide-hd,bus=ide.0,drive=disk,bootindex=1",
            Bus::Scsi => {
                arguments.pair("-device", "virtio-scsi-pci,id=scsi");
                "scsi-hd,bus=scsi.0,drive=disk,bootindex=1"
            }
        };
        arguments.pair("-device", device);
    }

    fn network(&self, arguments: &mut Arguments) {
        let mut netdev = "user,id=net".to_owned();
        if self.network == Network::Isolated {
            netdev.push_str(",restrict=on");
        }
        for Forward { host, guest } in &self.forwards {
            netdev.push_str(&format!(",hostfwd=tcp:127.0.0.1:{host}-:{guest}"));
        }
        arguments.pair("-netdev", netdev);
        // No option ROM: firmware would spend seconds in it.
        arguments.pair("-device", "virtio-net-pci,netdev=net,romfile=");
    }
}

impl Sockets {
    fn attach(&self, arguments: &mut Arguments) {
        arguments.chardev("socket,id=qmp,server=off", &[("path", &self.qmp)]);
        arguments.pair("-mon", "chardev=qmp,mode=control");
        let console = [
            ("path", self.serial.as_path()),
            ("logfile", &self.serial_log),
        ];
        arguments.chardev("socket,id=console,server=off", &console);
        arguments.pair("-serial", "chardev:console");
        arguments.chardev("socket,id=probe,server=off", &[("path", &self.probe)]);
        arguments.pair("-device", "virtio-serial-pci");
        arguments.pair(
            "-device",
            format!("virtserialport,chardev=probe,name={PROBE_PORT}"),
        );
        arguments.flag("-S");
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
