//! How much a process wants to run: what tells a slow guest from one that sleeps.

use std::fs;
use std::path::Path;
use std::time::Duration;

/// CPU time that the threads of process `id` have had or have waited for in the run queue
/// (`/proc/PID/task/TID/schedstat`: nanoseconds on the CPU, nanoseconds waiting, slices).
///
/// The waiting counts too: on a busy host a slow guest gets little, but it asks for much. None
/// when the process is gone or the kernel keeps no such account.
pub(crate) fn wanted(id: u32) -> Option<Duration> {
    wanted_below(Path::new("/proc"), id)
}

fn wanted_below(processes: &Path, id: u32) -> Option<Duration> {
    let tasks = fs::read_dir(processes.join(format!("{id}/task"))).ok()?;
    let times = tasks.flatten().filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        let mut numbers = text.split_ascii_whitespace().map(str::parse::<u64>);
        let (ran, waited) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        Some(Duration::from_nanos(ran.saturating_add(waited)))
    });
    let total: Duration = times.sum();
    (total > Duration::ZERO).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_counted_and_sleep_is_not() {
        let id = std::process::id();
        let Some(before) = wanted(id) else {
            eprintln!("SKIPPED: this kernel keeps no account of the run queue");
            return;
        };
        let mut sum = 0_u64;
        while wanted(id).unwrap() < before + Duration::from_millis(50) {
            sum = std::hint::black_box(sum + 1);
        }
        let folder = tempfile::tempdir().unwrap();
        for (task, text) in [("1", "5 7 1\n"), ("2", "11 13 1\n"), ("3", "junk\n")] {
            let task = folder.path().join("9/task").join(task);
            fs::create_dir_all(&task).unwrap();
            fs::write(task.join("schedstat"), text).unwrap();
        }
        assert_eq!(
            wanted_below(folder.path(), 9),
            Some(Duration::from_nanos(36))
        );
        assert_eq!(wanted_below(folder.path(), 10), None);
    }
}
