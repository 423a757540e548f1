//! Reports to the host, and the signs of life between them.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use baker_contract::Report;

use super::facts::uptime_ms;
use crate::systemd::FailedUnit;

/// Between two signs of life; the contract wants one every second at least.
const HEARTBEAT: Duration = Duration::from_millis(700);

/// What the next sign of life says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// systemd's word for itself.
    pub state: String,
    /// Jobs still queued.
    pub jobs: u64,
    /// A job that is running.
    pub job: String,
}

/// Writes reports, whole lines only, from several threads.
#[derive(Clone)]
pub struct Reporter(Arc<Mutex<Shared>>);

struct Shared {
    port: File,
    nonce: String,
    /// None before the run has begun and after it is done.
    status: Option<Status>,
    /// Failed units that the host knows of.
    told: BTreeSet<String>,
}

impl Reporter {
    /// Writes to this port, and gives a sign of life whenever a run is on.
    pub fn start(port: File) -> Self {
        let reporter = Self(Arc::new(Mutex::new(Shared {
            port,
            nonce: String::new(),
            status: None,
            told: BTreeSet::new(),
        })));
        let beating = reporter.clone();
        std::thread::spawn(move || {
            while beating.beat().is_ok() {
                std::thread::sleep(HEARTBEAT);
            }
        });
        reporter
    }

    /// Begins a run: nothing has been told to this host yet.
    pub fn begin(&self, nonce: &str) {
        let mut shared = self.lock();
        nonce.clone_into(&mut shared.nonce);
        shared.told.clear();
        shared.status = Some(Status {
            state: "starting".into(),
            ..Status::default()
        });
    }

    /// What the run's answers carry.
    pub fn nonce(&self) -> String {
        self.lock().nonce.clone()
    }

    /// Sends one report.
    ///
    /// # Errors
    /// The port breaks.
    pub fn send(&self, report: &Report) -> io::Result<()> {
        self.lock().send(report)
    }

    /// Sends the last report of a run; no sign of life follows it.
    ///
    /// # Errors
    /// The port breaks.
    pub fn finish(&self, report: &Report) -> io::Result<()> {
        let mut shared = self.lock();
        shared.status = None;
        shared.send(report)
    }

    /// Those of the failed units that the host does not know of.
    pub fn not_told(&self, failed: &[FailedUnit]) -> Vec<FailedUnit> {
        let shared = self.lock();
        let known = |unit: &&FailedUnit| !shared.told.contains(&unit.name);
        failed.iter().filter(known).cloned().collect()
    }

    /// Tells of a failed unit, once in a run; true when the host did not know.
    ///
    /// # Errors
    /// The port breaks.
    pub fn tell_failed(&self, unit: String, result: String) -> io::Result<bool> {
        let mut shared = self.lock();
        if shared.nonce.is_empty() || !shared.told.insert(unit.clone()) {
            return Ok(false);
        }
        shared.send(&Report::UnitFailed { unit, result })?;
        Ok(true)
    }

    /// Tells at once that some unit has failed, when a run is on.
    ///
    /// # Errors
    /// The port breaks.
    pub fn alarm(&self) -> io::Result<()> {
        let mut shared = self.lock();
        match shared.status {
            Some(_) => shared.send(&Report::Alarm),
            None => Ok(()),
        }
    }

    /// Changes what the next sign of life says, if any follows.
    pub fn note(&self, change: impl FnOnce(&mut Status)) {
        if let Some(status) = &mut self.lock().status {
            change(status);
        }
    }

    fn beat(&self) -> io::Result<()> {
        let mut shared = self.lock();
        let Some(status) = shared.status.clone() else {
            return Ok(());
        };
        shared.send(&Report::Waiting {
            state: status.state,
            jobs: status.jobs,
            job: status.job,
            uptime_ms: uptime_ms(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn send(&mut self, report: &Report) -> io::Result<()> {
        let line = format!("{}\n", report.to_line(&self.nonce));
        self.port.write_all(line.as_bytes())
    }
}
