//! From a machine to the QEMU command line.
//!
//! Pure: takes settings, gives arguments; looks at no file and at no host.

use std::ffi::OsString;
use std::path::Path;

use baker_contract::{DISK_PROBE_PORT, PROBE_DISK_SERIAL, PROBE_PORT};

use crate::arguments::Arguments;
use crate::credential::{credential_string, probe_credentials};
use crate::machine::{
    Attachment, Boot, Disk, DiskBus, Display, End, Forward, Link, Machine, Network, OnReset,
    ProbeOffer, Sockets, Tpm, Watchdog, Writes,
};
use crate::ovmf::Ovmf;
use crate::reads;
use crate::share::Share;
use crate::subject::MediumFormat;

impl Machine {
    /// The arguments for QEMU, without the program.
    #[must_use]
    pub fn argv(&self, attachment: Attachment<'_>) -> Vec<OsString> {
        let mut arguments = Arguments::default();
        arguments.flag("-no-user-config").flag("-nodefaults");
        arguments.pair("-name", "baker").pair("-display", "none");
        self.base(&mut arguments);
        self.boot(&mut arguments);
        if let Some(disk) = &self.disk {
            self.disk(&mut arguments, disk);
        }
        self.networks(&mut arguments);
        self.links(&mut arguments, attachment);
        self.extras(&mut arguments);
        credentials(&mut arguments, &self.credentials);
        if self.display == Display::Hidden {
            arguments.pair("-device", self.architecture.row().display);
        }
        arguments.pair("-device", "pvpanic-pci");
        // The kernel prints its reason before it tells the device; `none` lets the text through
        // and baker end the machine.
        arguments.pair("-action", "panic=none");
        if self.watchdog == Watchdog::Resets {
            arguments.pair("-device", "i6300esb");
            arguments.pair("-action", "watchdog=reset");
        }
        if self.on_reset == OnReset::Exit {
            arguments.flag("-no-reboot");
        }
        match attachment {
            Attachment::Observed(sockets) => self.observed(&mut arguments, sockets),
            Attachment::Terminal => {
                arguments.pair("-chardev", "stdio,id=console,mux=on,signal=off");
                arguments.pair("-serial", "chardev:console");
                arguments.pair("-mon", "chardev=console,mode=readline");
            }
        }
        arguments.finish()
    }

    fn base(&self, arguments: &mut Arguments) {
        let row = self.architecture.row();
        let mut board = self.board.clone();
        let guarded = match &self.boot {
            Boot::UefiSecure(_) => row.guarded_store,
            _ => None,
        };
        if let Some((option, _)) = guarded {
            board.push_str(&format!(",{option}"));
        }
        if !self.extras.shares.is_empty() {
            // Who serves a folder reads requests where the guest has written them.
            let size = self.memory_mib;
            let memory = format!("memory-backend-memfd,id=memory,share=on,size={size}M");
            arguments.pair("-object", memory);
            board.push_str(",memory-backend=memory");
        }
        arguments.pair("-machine", board);
        if let Some((_, property)) = guarded {
            arguments.pair("-global", property);
        }
        arguments.processor(self.accelerator, self.threads, &self.cpu);
        arguments.pair("-smp", self.cpus.to_string());
        arguments.pair("-m", self.memory_mib.to_string());
    }

    fn boot(&self, arguments: &mut Arguments) {
        match &self.boot {
            Boot::Direct(direct) => {
                arguments
                    .pair("-kernel", &direct.kernel)
                    .pair("-initrd", &direct.initrd);
                let mut append = direct.append.clone();
                if let Some(word) = self.emulation_word()
                    && !append.split_ascii_whitespace().any(|w| w == word)
                {
                    append.push(' ');
                    append.push_str(word);
                }
                arguments.pair("-append", append.trim_start());
            }
            Boot::Uefi(Ovmf { code, vars }) | Boot::UefiSecure(Ovmf { code, vars }) => {
                arguments.drive("if=pflash,unit=0,format=raw,readonly=on", code);
                arguments.drive("if=pflash,unit=1,format=raw,snapshot=on", vars);
                let own = self.emulation_word().into_iter();
                let words: Vec<&str> = own
                    .chain(self.extras.append.iter().map(String::as_str))
                    .collect();
                if !words.is_empty() {
                    // systemd-stub appends this to the signed command line and measures it. It
                    // looks at one such string only. QEMU reads a doubled comma as one.
                    let words = words.join(" ").replace(',', ",,");
                    let text =
                        format!("type=11,value=io.systemd.stub.kernel-cmdline-extra={words}");
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

    fn emulation_word(&self) -> Option<&'static str> {
        self.architecture.row().emulation_word(self.accelerator)
    }

    fn disk(&self, arguments: &mut Arguments, disk: &Disk) {
        let format = match disk.medium.format {
            MediumFormat::Program => {
                arguments.pair("-kernel", &disk.medium.path);
                return;
            }
            MediumFormat::Raw => "raw",
            // A stick: NVMe knows no CD drives.
            MediumFormat::Iso if self.bus == DiskBus::Nvme => "raw",
            MediumFormat::Qcow2 => "qcow2",
            MediumFormat::Vmdk => "vmdk",
            MediumFormat::Vpc => "vpc",
            MediumFormat::Iso => {
                let options = "if=none,id=disk,format=raw,media=cdrom,readonly=on";
                arguments.drive(options, &disk.medium.path);
                return self.attach(arguments, ["ide-cd", "scsi-cd"]);
            }
        };
        let snapshot = match disk.writes {
            Writes::Discarded => ",snapshot=on",
            Writes::Kept => "",
        };
        let options = format!("if=none,id=disk,format={format}{snapshot}");
        arguments.drive(&options, &disk.medium.path);
        match self.bus {
            DiskBus::Virtio => {
                arguments.pair("-device", "virtio-blk-pci,drive=disk,bootindex=1");
            }
            DiskBus::Nvme => {
                arguments.pair("-device", "nvme,drive=disk,serial=baker,bootindex=1");
            }
            DiskBus::Sata | DiskBus::Scsi => self.attach(arguments, ["ide-hd", "scsi-hd"]),
        }
    }

    /// Attaches the drive to the SCSI bus when that is wanted, else to the SATA bus.
    fn attach(&self, arguments: &mut Arguments, [sata, scsi]: [&str; 2]) {
        let device = if self.bus == DiskBus::Scsi {
            arguments.pair("-device", "virtio-scsi-pci,id=scsi");
            format!("{scsi},bus=scsi.0,drive=disk,bootindex=1")
        } else {
            arguments.pair("-device", "ich9-ahci,id=sata");
            format!("{sata},bus=sata.0,drive=disk,bootindex=1")
        };
        arguments.pair("-device", device);
    }

    fn networks(&self, arguments: &mut Arguments) {
        for number in 0..self.networks {
            let mut netdev = format!("user,id=net{number}");
            if number > 0 {
                // Networks of their own, so that an address names one card.
                netdev.push_str(&format!(",net=10.0.{}.0/24", number + 2));
            }
            if self.network == Network::Isolated {
                netdev.push_str(",restrict=on");
            }
            for Forward { host, guest } in self.forwards.iter().filter(|_| number == 0) {
                netdev.push_str(&format!(",hostfwd=tcp:127.0.0.1:{host}-:{guest}"));
            }
            arguments.pair("-netdev", netdev);
            // No option ROM: firmware would spend seconds in it.
            let device = format!("virtio-net-pci,netdev=net{number},romfile=");
            arguments.pair("-device", device);
        }
    }

    fn links(&self, arguments: &mut Arguments, attachment: Attachment<'_>) {
        for (number, Link { mac }) in (1..).zip(&self.links) {
            match attachment {
                Attachment::Observed(sockets) => {
                    Link::netdev(arguments, &sockets.links, number, End::Machine);
                }
                // The card is there, and nobody at its other end.
                Attachment::Terminal => {
                    let netdev = format!("hubport,id=link{number},hubid={number}");
                    arguments.pair("-netdev", netdev);
                }
            }
            let device = format!("virtio-net-pci,netdev=link{number},romfile=,mac={mac}");
            arguments.pair("-device", device);
        }
    }

    fn extras(&self, arguments: &mut Arguments) {
        for path in &self.extras.smbios {
            arguments.options("-smbios", "type=11", &[("path", path)]);
        }
        if let Some(file) = &self.extras.reads {
            arguments.options(
                "-trace",
                &format!("enable={}", reads::EVENT),
                &[("file", file)],
            );
        }
        for (number, socket) in self.extras.shares.iter().enumerate() {
            let tag = Share::tag(number);
            arguments.chardev(&format!("socket,id={tag}"), &[("path", socket)]);
            let device = format!("vhost-user-fs-pci,chardev={tag},tag={tag}");
            arguments.pair("-device", device);
        }
    }

    fn observed(&self, arguments: &mut Arguments, sockets: &Sockets) {
        arguments.chardev("socket,id=qmp,server=off", &[("path", &sockets.qmp)]);
        arguments.pair("-mon", "chardev=qmp,mode=control");
        let console = [
            ("path", sockets.serial.as_path()),
            ("logfile", &sockets.serial_log),
        ];
        arguments.chardev("socket,id=console,server=off", &console);
        arguments.pair("-serial", "chardev:console");
        match &self.probe {
            ProbeOffer::None => {}
            ProbeOffer::Port => probe_port(arguments, &sockets.probe, PROBE_PORT),
            ProbeOffer::Disk(image) => {
                arguments.drive("if=none,id=probe-disk,format=raw,readonly=on", image);
                let device = format!("virtio-blk-pci,drive=probe-disk,serial={PROBE_DISK_SERIAL}");
                arguments.pair("-device", device);
                credentials(arguments, &probe_credentials());
                probe_port(arguments, &sockets.probe, DISK_PROBE_PORT);
            }
        }
        if self.tpm == Tpm::Emulated {
            arguments.chardev("socket,id=tpm", &[("path", &sockets.tpm)]);
            arguments.pair("-tpmdev", "emulator,id=tpm,chardev=tpm");
            let device = self.architecture.row().tpm;
            arguments.pair("-device", format!("{device},tpmdev=tpm"));
        }
        arguments.flag("-S");
    }
}

impl Link {
    /// One end of the link with this number. Both ends are sockets of datagrams, a frame each: no
    /// end has to be there before the other, and nothing but the two can reach them.
    pub(crate) fn netdev(arguments: &mut Arguments, folder: &Path, number: usize, end: End) {
        let path = |name: &str| folder.join(format!("link{number}.{name}"));
        let (machine, neighbour) = (path("machine"), path("neighbour"));
        let (local, remote) = match end {
            End::Machine => (&machine, &neighbour),
            End::Neighbour => (&neighbour, &machine),
        };
        arguments.options(
            "-netdev",
            &format!("dgram,id=link{number},local.type=unix,remote.type=unix"),
            &[("local.path", local), ("remote.path", remote)],
        );
    }
}

/// systemd takes them from SMBIOS strings of type 11.
fn credentials(arguments: &mut Arguments, all: &[(String, Vec<u8>)]) {
    for (name, value) in all {
        let text = credential_string(name, value);
        arguments.pair("-smbios", format!("type=11,value={text}"));
    }
}

fn probe_port(arguments: &mut Arguments, socket: &Path, name: &str) {
    arguments.chardev("socket,id=probe,server=off", &[("path", socket)]);
    arguments.pair("-device", "virtio-serial-pci");
    arguments.pair(
        "-device",
        format!("virtserialport,chardev=probe,name={name}"),
    );
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
