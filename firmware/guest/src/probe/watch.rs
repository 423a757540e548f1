//! Watching systemd until the boot is over, without slowing it.
//!
//! systemd sends every direct D-Bus connection all its signals, and marshalling those delays the
//! boot that is being watched. So the probe asks rarely and listens instead: to the messages
//! that systemd sends to its own supervisor (`NOTIFY_SOCKET`, see `systemd(1)`), among them one
//! at each target that is reached, hence one for each unit that fails (`handover`).

use std::fs;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use baker_contract::Report;

use super::reporter::Reporter;
use crate::checks::last_words;
use crate::handover::{FAILURE_TARGET, NOTIFY_SOCKET};
use crate::port::Way;
use crate::systemd::{Job, State, Systemd};

/// Between two looks once systemd has said that the boot is over.
const POLL: Duration = Duration::from_millis(300);

/// Between two looks where nobody tells of failed units.
const UNTOLD_POLL: Duration = Duration::from_secs(1);

/// Silence after which the boot may be stuck.
const SILENCE: Duration = Duration::from_secs(4);

/// Between two looks while silence lasts.
const SILENT_POLL: Duration = Duration::from_secs(2);

/// Between two looks at the least, whatever happens in between.
const REST: Duration = Duration::from_millis(100);

/// Why there is a reason to look, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// systemd says that the boot is over.
    Ready,
    /// A unit has failed.
    Failed,
    /// The host wants to know whether a unit has failed.
    Look,
    /// Something else happened: the boot goes on.
    Alive,
}

/// Why a look went wrong.
pub enum Trouble {
    /// There is nobody to tell.
    Port(io::Error),
    /// systemd does not answer.
    Systemd(io::Error),
}

/// Looks when there is reason to, for as long as the program runs. `settled` is called once, when
/// the boot is over; `broken` when the port breaks.
pub fn start(
    reporter: &Reporter,
    way: Way,
    settled: impl FnOnce() + Send + 'static,
    broken: impl FnOnce(io::Error) + Send + 'static,
) -> io::Result<Sender<Sign>> {
    let (sender, signs) = mpsc::channel();
    listen(sender.clone(), reporter.clone())?;
    let mut watch = Watch {
        reporter: reporter.clone(),
        signs,
        pace: Pace::new(way),
        settled: Some(Box::new(settled)),
        jobs: Vec::new(),
    };
    std::thread::spawn(move || {
        if let Err(error) = watch.run() {
            broken(error);
        }
    });
    Ok(sender)
}

/// Takes systemd's messages off the socket; of a failure the host hears at once.
///
/// A thread of its own does so, whatever else goes on: systemd blocks when the queue is full, and
/// nobody who waits for systemd may be the one to empty it.
fn listen(signs: Sender<Sign>, reporter: Reporter) -> io::Result<()> {
    if let Some(folder) = Path::new(NOTIFY_SOCKET).parent() {
        fs::create_dir_all(folder)?;
    }
    match fs::remove_file(NOTIFY_SOCKET) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = UnixDatagram::bind(NOTIFY_SOCKET)?;
    std::thread::spawn(move || {
        let mut message = [0; 4096];
        while let Ok(length) = socket.recv(&mut message) {
            let sign = sign(&message[..length]);
            if sign == Sign::Failed {
                // systemd answers only when it has started all else that is due. A broken port
                // says so to those who read it.
                reporter.alarm().unwrap_or_default();
            }
            if signs.send(sign).is_err() {
                return;
            }
        }
    });
    Ok(())
}

/// What a message of systemd means.
fn sign(message: &[u8]) -> Sign {
    let failed = format!("X_SYSTEMD_UNIT_ACTIVE={FAILURE_TARGET}");
    let has = |wanted: &[u8]| {
        message
            .split(|&byte| byte == b'\n')
            .any(|line| line == wanted)
    };
    if has(b"READY=1") {
        Sign::Ready
    } else if has(failed.as_bytes()) {
        Sign::Failed
    } else {
        Sign::Alive
    }
}

/// Looks now: tells of units that failed since the last look, and gives the state.
pub fn look(reporter: &Reporter) -> Result<(State, Systemd), Trouble> {
    let mut systemd = Systemd::connect().map_err(Trouble::Systemd)?;
    let state = systemd.state().map_err(Trouble::Systemd)?;
    reporter.note(|status| {
        status.state.clone_from(&state.system);
        status.jobs = state.jobs.into();
    });
    let new = reporter.not_told(&state.failed);
    if !new.is_empty() {
        let results = systemd.results(&new).map_err(Trouble::Systemd)?;
        let mut told = Vec::new();
        for (unit, result) in new.into_iter().zip(results) {
            let failed = reporter.tell_failed(unit.name.clone(), result);
            if failed.map_err(Trouble::Port)? {
                told.push(unit.name);
            }
        }
        tell_words(reporter, told);
    }
    Ok((state, systemd))
}

/// Tells what units said last, one after the other; nothing else waits for that.
pub fn tell_words(reporter: &Reporter, units: Vec<String>) {
    if units.is_empty() {
        return;
    }
    let reporter = reporter.clone();
    std::thread::spawn(move || {
        for unit in units {
            let text = last_words(&unit);
            // A broken port says so to those who read it.
            let said = Report::UnitSaid { unit, text };
            reporter.send(&said).unwrap_or_default();
        }
    });
}

struct Watch {
    reporter: Reporter,
    signs: Receiver<Sign>,
    pace: Pace,
    settled: Option<Box<dyn FnOnce() + Send>>,
    /// Running jobs and when they were first seen.
    jobs: Vec<(u32, Instant)>,
}

impl Watch {
    /// Ends only when the port breaks.
    fn run(&mut self) -> io::Result<()> {
        loop {
            let mut due = match self.signs.recv_timeout(self.pace.pause()) {
                Ok(sign) => self.pace.hear(sign),
                Err(RecvTimeoutError::Timeout) => true,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
            while let Ok(sign) = self.signs.try_recv() {
                due |= self.pace.hear(sign);
            }
            if due {
                self.look()?;
                self.pace.looked();
                std::thread::sleep(REST);
            }
        }
    }

    fn look(&mut self) -> io::Result<()> {
        match look(&self.reporter) {
            Ok((state, _)) if state.settled() => {
                self.pace.settled = true;
                if let Some(settled) = self.settled.take() {
                    self.reporter.note(|status| status.job.clear());
                    settled();
                }
            }
            // Jobs that come after the boot do not hide what is being checked.
            Ok(_) if self.pace.settled => {}
            Ok((_, mut systemd)) => {
                let job = systemd.jobs().ok().and_then(|jobs| self.longest(&jobs));
                let job = job.unwrap_or_default();
                self.reporter.note(|status| status.job = job);
            }
            Err(Trouble::Port(error)) => return Err(error),
            Err(Trouble::Systemd(error)) => self
                .reporter
                .note(|status| status.state = format!("unreachable: {error}")),
        }
        Ok(())
    }

    /// The running job that was seen first.
    fn longest(&mut self, jobs: &[Job]) -> Option<String> {
        let running: Vec<&Job> = jobs.iter().filter(|job| job.running).collect();
        self.jobs
            .retain(|(id, _)| running.iter().any(|job| job.id == *id));
        let now = Instant::now();
        for job in &running {
            if !self.jobs.iter().any(|(id, _)| *id == job.id) {
                self.jobs.push((job.id, now));
            }
        }
        let (oldest, _) = self.jobs.iter().min_by_key(|(id, since)| (*since, *id))?;
        let oldest = running.iter().find(|job| job.id == *oldest)?;
        Some(oldest.name.clone())
    }
}

/// When to look next.
#[derive(Debug)]
struct Pace {
    way: Way,
    ready: bool,
    settled: bool,
    /// True when the last look came from silence, or was the first.
    silent: bool,
}

impl Pace {
    fn new(way: Way) -> Self {
        Self {
            way,
            ready: false,
            settled: false,
            silent: false,
        }
    }

    /// Takes note of a sign; true when it is a reason to look at once.
    fn hear(&mut self, sign: Sign) -> bool {
        self.silent = false;
        self.ready |= sign == Sign::Ready;
        sign != Sign::Alive
    }

    fn looked(&mut self) {
        self.silent = true;
    }

    /// How long to wait for a sign before looking without one.
    fn pause(&self) -> Duration {
        match (self.way, self.settled) {
            (Way::Carried, false) if self.ready => POLL,
            (Way::Carried, false) if self.silent => SILENT_POLL,
            (Way::Carried, false) => SILENCE,
            (Way::Disk, _) => UNTOLD_POLL,
            (Way::Carried, true) => SILENT_POLL,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_systemd_are_understood() {
        let rows: [(&[u8], Sign); 5] = [
            (b"STATUS=x\nREADY=1", Sign::Ready),
            (b"STATUS=READY=1\nREADY=0", Sign::Alive),
            (
                b"X_SYSTEMD_UNIT_ACTIVE=baker-unit-failed.target",
                Sign::Failed,
            ),
            (
                b"X_SYSTEMD_UNIT_INACTIVE=baker-unit-failed.target",
                Sign::Alive,
            ),
            (b"\xff", Sign::Alive),
        ];
        for (message, expected) in rows {
            assert_eq!(sign(message), expected, "{message:?}");
        }
    }

    #[test]
    fn looks_are_rare_while_the_boot_goes_on() {
        let mut pace = Pace::new(Way::Carried);
        assert_eq!(pace.pause(), SILENCE);
        assert!(!pace.hear(Sign::Alive));
        assert_eq!(pace.pause(), SILENCE);
        pace.looked();
        assert_eq!(pace.pause(), SILENT_POLL);
        assert!(pace.hear(Sign::Look));
        pace.looked();
        assert!(pace.hear(Sign::Ready));
        assert_eq!(pace.pause(), POLL);
        pace.settled = true;
        assert_eq!(pace.pause(), SILENT_POLL);
        assert_eq!(Pace::new(Way::Disk).pause(), UNTOLD_POLL);
    }
}
