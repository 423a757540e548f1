//! From a neighbour to the QEMU command line. Pure.

use std::ffi::OsString;
use std::path::Path;

use super::{MEMORY_MIB, NeighbourFiles};
use crate::accelerator::Accelerator;
use crate::arguments::Arguments;
use crate::machine::{End, Link};
use crate::qemu::Qemu;

/// What a neighbour is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct NeighbourMachine<'a> {
    pub qemu: &'a Qemu,
    pub cpu: &'a str,
    pub accelerator: Accelerator,
    pub files: &'a NeighbourFiles,
    /// Its place among the neighbours, from 1.
    pub number: usize,
    /// Folder of the links' sockets.
    pub links: &'a Path,
    /// Where QEMU keeps the console log.
    pub log: &'a Path,
}

impl NeighbourMachine<'_> {
    /// The arguments for QEMU, without the program. Its console is QEMU's standard input and
    /// output.
    pub(super) fn argv(&self) -> Vec<OsString> {
        let row = self.qemu.architecture.row();
        let mut arguments = Arguments::default();
        arguments.flag("-no-user-config").flag("-nodefaults");
        arguments.pair("-name", "baker-neighbour");
        arguments
            .pair("-display", "none")
            .pair("-machine", self.qemu.board());
        arguments.processor(self.accelerator, self.qemu.threads(), self.cpu);
        arguments.pair("-smp", "1");
        arguments.pair("-m", MEMORY_MIB.to_string());
        arguments.pair("-kernel", &self.files.kernel);
        arguments.pair("-initrd", &self.files.initrd);
        let mut append = format!("console={} quiet panic=-1", row.serial);
        if let Some(word) = row.emulation_word(self.accelerator) {
            append.push(' ');
            append.push_str(word);
        }
        arguments.pair("-append", append);
        Link::netdev(&mut arguments, self.links, self.number, End::Neighbour);
        let mac = format!("52:54:00:6e:62:{:02x}", self.number);
        let device = format!(
            "virtio-net-pci,netdev=link{},romfile=,mac={mac}",
            self.number
        );
        arguments.pair("-device", device);
        arguments.chardev(
            "stdio,id=console,signal=off,logappend=on",
            &[("logfile", self.log)],
        );
        arguments.pair("-serial", "chardev:console");
        arguments.flag("-no-reboot");
        arguments.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::Architecture;
    use crate::arguments::shell_line;
    use crate::qemu::Version;

    #[test]
    fn a_neighbour_has_a_card_and_a_console() {
        let files = NeighbourFiles {
            kernel: "/r/kernel".into(),
            initrd: "/r/initrd".into(),
        };
        let qemu = Qemu {
            program: "qemu".into(),
            version: Version {
                major: 7,
                minor: 2,
                micro: 0,
            },
            architecture: Architecture::Amd64,
        };
        let machine = NeighbourMachine {
            qemu: &qemu,
            cpu: "max",
            accelerator: Accelerator::Kvm,
            files: &files,
            number: 2,
            links: Path::new("/s"),
            log: Path::new("/e/right.log"),
        };
        let found = shell_line(Path::new("qemu"), &machine.argv());
        let expected = "qemu -no-user-config -nodefaults -name baker-neighbour -display none \
            -machine q35,sata=off,smbus=off,i8042=off -accel kvm -cpu max -smp 1 -m 128 \
            -kernel /r/kernel -initrd /r/initrd -append 'console=ttyS0 quiet panic=-1' -netdev \
            dgram,id=link2,local.type=unix,remote.type=unix,\
            local.path=/s/link2.neighbour,remote.path=/s/link2.machine \
            -device virtio-net-pci,netdev=link2,romfile=,mac=52:54:00:6e:62:02 -chardev \
            stdio,id=console,signal=off,logappend=on,logfile=/e/right.log \
            -serial chardev:console -no-reboot";
        assert_eq!(found, expected);
    }
}
