//! A machine for one errand: it gets a disk to read, works in memory, answers on one port, and is
//! gone. No firmware, no network, no disk to write.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use crate::accelerator::Accelerator;
use crate::arguments::Arguments;
use crate::child::die_with_parent;
use crate::qemu::Qemu;

/// Makes the guest quick. Emulated code is found again by its address: where every process has
/// its own, all of it is translated anew with every process, which took half of the whole time.
/// The other guards pages of processes from one another, and nobody else is in this machine.
const LEAN: &str = "norandmaps init_on_alloc=0";

/// What the machine is made of.
#[derive(Debug, Clone, Copy)]
pub struct ErrandMachine<'a> {
    /// The emulator.
    pub qemu: &'a Qemu,
    /// CPU model.
    pub cpu: &'a str,
    /// Who runs its instructions.
    pub accelerator: Accelerator,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// The kernel image.
    pub kernel: &'a Path,
    /// The initramfs.
    pub initrd: &'a Path,
    /// What the guest reads as its first virtio disk.
    pub disk: &'a Path,
    /// Name of the virtio-serial port whose other end is QEMU's standard output.
    pub port: &'a str,
    /// Gets what the kernel prints.
    pub console: &'a Path,
    /// What the clock shows at the start, seconds since 1970-01-01 UTC.
    pub epoch: i64,
}

impl ErrandMachine<'_> {
    /// QEMU with its arguments, ready to be started by **the thread that waits for its end**: when
    /// that one dies, by whatever means, so does the machine.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.qemu.program);
        command.args(self.argv());
        die_with_parent(&mut command);
        command
    }

    /// The arguments for QEMU, without the program.
    fn argv(&self) -> Vec<OsString> {
        let row = self.qemu.architecture.row();
        let mut arguments = Arguments::default();
        arguments.flag("-no-user-config").flag("-nodefaults");
        arguments.pair("-name", "baker").pair("-display", "none");
        arguments.pair("-machine", row.board);
        arguments.processor(self.accelerator, self.qemu.threads(), self.cpu);
        arguments.pair("-smp", "1");
        arguments.pair("-m", self.memory_mib.to_string());
        // Its clock follows what it does, not how long the host takes for that.
        arguments.pair("-rtc", format!("base={},clock=vm", calendar(self.epoch)));
        arguments
            .pair("-kernel", self.kernel)
            .pair("-initrd", self.initrd);
        let mut append = format!("console={} quiet panic=-1 {LEAN}", row.serial);
        if let Some(word) = row.emulation_word(self.accelerator) {
            append.push(' ');
            append.push_str(word);
        }
        arguments.pair("-append", append);
        arguments.drive("if=none,id=input,format=raw,readonly=on", self.disk);
        arguments.pair("-device", "virtio-blk-pci,drive=input");
        arguments.pair("-device", "virtio-serial-pci");
        arguments.pair("-chardev", "stdio,id=port,signal=off");
        let port = format!("virtserialport,chardev=port,name={}", self.port);
        arguments.pair("-device", port);
        arguments.chardev("file,id=console", &[("path", self.console)]);
        arguments.pair("-serial", "chardev:console");
        arguments.flag("-no-reboot");
        arguments.finish()
    }
}

/// A time as QEMU's `-rtc base` takes it. Days to civil date as in Hinnant's "chrono-Compatible
/// Low-Level Date Algorithms".
fn calendar(epoch: i64) -> String {
    let (days, second) = (epoch.div_euclid(86_400), epoch.rem_euclid(86_400));
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = (shifted_month + 2) % 12 + 1;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}",
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let rows = [
            (0, "1970-01-01T00:00:00"),
            (951_782_400, "2000-02-29T00:00:00"),
            (1_754_660_703, "2025-08-08T13:45:03"),
            (-1, "1969-12-31T23:59:59"),
        ];
        for (epoch, expected) in rows {
            assert_eq!(calendar(epoch), expected);
        }
    }
}
