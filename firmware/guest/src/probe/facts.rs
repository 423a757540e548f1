//! What the kernel says of itself and of its root.

use std::fs;
use std::path::Path;

use baker_contract::Report;

use crate::dm::DeviceMapper;
use crate::{checks, verity};

/// The first report of a run.
pub fn hello() -> Report {
    Report::Hello {
        root_hash: root_hash(),
        kernel: first_line("/proc/sys/kernel/osrelease"),
        boot_id: first_line("/proc/sys/kernel/random/boot_id"),
        secure_boot: checks::secure_boot().name().to_owned(),
        uptime_ms: uptime_ms(),
    }
}

/// The last report of a run, with this state of systemd.
pub fn done(state: String) -> Report {
    Report::Done {
        state,
        root_hash: root_hash(),
        uptime_ms: uptime_ms(),
        memory_kib: memory_kib(&fs::read_to_string("/proc/meminfo").unwrap_or_default()),
    }
}

/// Root hash of the active dm-verity table of the very device that is mounted on `/`; empty when
/// `/` is anything else, or when verity has found corruption.
fn root_hash() -> String {
    verified_root().unwrap_or_default()
}

fn verified_root() -> Option<String> {
    let device = nix::sys::stat::stat(Path::new("/")).ok()?.st_dev;
    let mapper = DeviceMapper::open().ok()?;
    let [table] = &mapper.table(device).ok()?[..] else {
        return None;
    };
    let [status] = &mapper.status(device).ok()?[..] else {
        return None;
    };
    let verified = table.kind == "verity" && table.start == 0 && status.parameters.starts_with('V');
    let hash = verity::root_hash_of_table(&table.parameters).filter(|_| verified)?;
    Some(hash.hex())
}

fn first_line(path: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().next().unwrap_or_default().to_owned()
}

/// Milliseconds since the kernel started.
pub fn uptime_ms() -> u64 {
    parse_uptime(&first_line("/proc/uptime")).unwrap_or(0)
}

/// `/proc/uptime` is `SECONDS.HUNDREDTHS IDLE`.
fn parse_uptime(text: &str) -> Option<u64> {
    let (seconds, hundredths) = text.split_ascii_whitespace().next()?.split_once('.')?;
    Some(seconds.parse::<u64>().ok()? * 1000 + hundredths.parse::<u64>().ok()? * 10)
}

/// `MemTotal - MemAvailable` of `/proc/meminfo`.
fn memory_kib(text: &str) -> u64 {
    let field = |name: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|rest| rest.split_ascii_whitespace().next()?.parse::<u64>().ok())
    };
    field("MemTotal")
        .unwrap_or(0)
        .saturating_sub(field("MemAvailable").unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_texts_are_understood() {
        assert_eq!(parse_uptime("12.34 20.00"), Some(12_340));
        assert_eq!(parse_uptime(""), None);
        assert_eq!(
            memory_kib("MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:   400 kB\n"),
            600
        );
        assert_eq!(memory_kib(""), 0);
    }
}
