//! Programs of the image, run for what they answer.

use std::io::Read;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use baker_contract::Check;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use super::{Answer, Progress, cut};

/// Output that is kept of a command that is checked; the rest is read and dropped.
const KEPT: usize = 256 * 1024;

/// Output that is told, in bytes.
const TOLD: usize = 512;

/// Between two looks at a running program.
const POLL: Duration = Duration::from_millis(20);

/// How long output is awaited from processes that left the group and outlived the program.
const STRAGGLERS: Duration = Duration::from_millis(500);

/// Between two signs of progress.
const SECOND: Duration = Duration::from_secs(1);

/// All that a program gets to know; like the surroundings of a system service.
const ENVIRONMENT: [(&str, &str); 3] = [
    (
        "PATH",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ),
    ("LC_ALL", "C.UTF-8"),
    ("HOME", "/root"),
];

/// One end of a program's output, as far as it was kept.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Output {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// True when there were more.
    pub cut: bool,
}

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    /// None when it was killed because its time was over.
    pub status: Option<ExitStatus>,
    /// Standard output.
    pub output: Output,
    /// Standard error.
    pub errors: Output,
}

impl Ended {
    /// How it ended, and the beginning of what it said.
    pub fn describe(&self) -> String {
        let end = match self.status {
            None => "killed, its time was over".to_owned(),
            Some(status) => match (status.code(), status.signal()) {
                (Some(code), _) => format!("exit code {code}"),
                (None, signal) => format!("killed by signal {}", signal.unwrap_or_default()),
            },
        };
        let said = [&self.output, &self.errors]
            .map(|output| String::from_utf8_lossy(&output.bytes).trim().to_owned());
        let said = said.iter().find(|text| !text.is_empty());
        said.map_or_else(|| end.clone(), |text| format!("{end}: {}", cut(text, TOLD)))
    }
}

/// A program ends as wanted and says what is wanted.
pub fn check(check: &Check, progress: Progress<'_>) -> Result<Answer, String> {
    let Check::Command {
        run: words,
        exit_code,
        contains,
        output,
        seconds,
    } = check
    else {
        return Err("no command".into());
    };
    let patience = Duration::from_secs((*seconds).into());
    let ended = run(words, patience, KEPT, progress)?;
    let code = ended.status.and_then(|status| status.code());
    if code != Some(i32::from(*exit_code)) {
        return Ok(Answer::no(ended.describe()));
    }
    let said = String::from_utf8_lossy(&ended.output.bytes);
    let is_whole = |wanted: &String| !ended.output.cut && said.trim() == wanted.trim();
    let holds = contains.as_ref().is_none_or(|text| said.contains(text))
        && output.as_ref().is_none_or(is_whole);
    Ok(Answer::new(holds, ended.describe()))
}

/// Runs a program to its end, or kills it and all of its process group when `patience` is over.
/// What it left running in its group ends with it.
///
/// # Errors
/// It cannot be started.
pub fn run(
    words: &[String],
    patience: Duration,
    kept: usize,
    progress: Progress<'_>,
) -> Result<Ended, String> {
    let (program, arguments) = words.split_first().ok_or("no program is named")?;
    if !Path::new(program).is_absolute() {
        return Err(format!("`{program}` is no absolute path"));
    }
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(ENVIRONMENT)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| format!("cannot start {program}: {error}"))?;
    // The probe outlives a lack of memory; what it runs need not.
    std::fs::write(format!("/proc/{}/oom_score_adj", child.id()), "0").ok();
    let collectors = [
        child.stdout.take().map(|pipe| Collector::start(pipe, kept)),
        child.stderr.take().map(|pipe| Collector::start(pipe, kept)),
    ];
    let in_time = wait(&child, patience, progress);
    // The program is not reaped yet, so that its group cannot be another's by now.
    if let Ok(group) = i32::try_from(child.id()) {
        killpg(Pid::from_raw(group), Signal::SIGKILL).ok();
    }
    let status = child
        .wait()
        .map_err(|error| format!("waiting for {program}: {error}"))?;
    let deadline = Instant::now() + STRAGGLERS;
    let [output, errors] =
        collectors.map(|collector| collector.map_or_else(Output::default, |c| c.take(deadline)));
    Ok(Ended {
        status: in_time.then_some(status),
        output,
        errors,
    })
}

/// Waits until the program has ended, or its time is over; true when it has ended.
fn wait(child: &Child, patience: Duration, progress: Progress<'_>) -> bool {
    let start = Instant::now();
    let mut told = Duration::ZERO;
    loop {
        if has_ended(child) {
            return true;
        }
        let passed = start.elapsed();
        if passed >= patience {
            return false;
        }
        if passed >= told + SECOND {
            told = passed;
            progress(&format!("{} s", passed.as_secs()));
        }
        thread::sleep(POLL);
    }
}

/// Looks without reaping.
fn has_ended(child: &Child) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    let Ok(process) = i32::try_from(child.id()) else {
        return true;
    };
    // An error means that there is no such child any more.
    !matches!(
        waitid(Id::Pid(Pid::from_raw(process)), flags),
        Ok(WaitStatus::StillAlive)
    )
}

/// Reads a pipe to its end in a thread of its own.
struct Collector {
    kept: Arc<Mutex<Output>>,
    thread: JoinHandle<()>,
}

impl Collector {
    fn start(mut pipe: impl Read + Send + 'static, limit: usize) -> Self {
        let kept = Arc::new(Mutex::new(Output::default()));
        let shared = Arc::clone(&kept);
        let thread = thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = pipe.read(&mut bytes) {
                let mut kept = shared.lock().unwrap_or_else(PoisonError::into_inner);
                let room = limit.saturating_sub(kept.bytes.len()).min(count);
                kept.bytes.extend_from_slice(&bytes[..room]);
                kept.cut |= room < count;
            }
        });
        Self { kept, thread }
    }

    /// What came until the end of the pipe, or until the deadline.
    fn take(self, deadline: Instant) -> Output {
        while !self.thread.is_finished() && Instant::now() < deadline {
            thread::sleep(POLL);
        }
        std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, exit_code: u8, contains: Option<&str>, output: Option<&str>) -> Answer {
        let command = Check::Command {
            run: vec!["/bin/sh".into(), "-c".into(), script.into()],
            exit_code,
            contains: contains.map(str::to_owned),
            output: output.map(str::to_owned),
            seconds: 20,
        };
        check(&command, &|_| {}).unwrap()
    }

    #[test]
    fn codes_and_output_are_compared() {
        let answer = shell(
            "echo one two; echo bad >&2; exit 3",
            3,
            Some("one"),
            Some("one two"),
        );
        assert!(answer.holds);
        assert_eq!(answer.found, "exit code 3: one two");
        assert!(!shell("echo one", 1, None, None).holds);
        assert!(!shell("echo one", 0, Some("two"), None).holds);
        assert!(!shell("echo one", 0, None, Some("on")).holds);
        assert_eq!(
            shell("kill -9 $$", 0, None, None).found,
            "killed by signal 9"
        );
        assert_eq!(
            shell("echo why >&2; exit 1", 0, None, None).found,
            "exit code 1: why"
        );
        assert!(shell("test -z \"$NOTIFY_SOCKET$CARGO\"", 0, None, None).holds);
    }

    #[test]
    fn much_output_is_drained_but_not_kept() {
        let answer = shell(
            "i=0; while [ $i -lt 9 ]; do printf '%099999d' 0; i=$((i+1)); done",
            0,
            None,
            Some("0"),
        );
        assert!(!answer.holds);
        assert!(answer.found.len() < 1024);
    }

    #[test]
    fn when_time_is_over_the_whole_group_dies() {
        let words = ["/bin/sh", "-c", "sleep 60 & echo $!; exec sleep 20"].map(str::to_owned);
        let ended = run(&words, Duration::from_secs(2), KEPT, &|_| {}).unwrap();
        assert!(ended.status.is_none());
        let child = String::from_utf8(ended.output.bytes).unwrap();
        let child: u32 = child.trim().parse().unwrap();
        let lives = || {
            let status = std::fs::read_to_string(format!("/proc/{child}/stat"));
            status.is_ok_and(|text| !text.contains(") Z "))
        };
        // A process dies some time after the signal, on a busy machine later than it is looked at.
        for _ in 0..500 {
            if !lives() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("{child} lives");
    }

    #[test]
    fn what_cannot_be_started_is_said() {
        for (program, text) in [("true", "absolute"), ("/no/such", "/no/such")] {
            let error = run(&[program.to_owned()], SECOND, KEPT, &|_| {}).unwrap_err();
            assert!(error.contains(text), "{error}");
        }
        assert!(run(&[], SECOND, KEPT, &|_| {}).is_err());
    }
}
