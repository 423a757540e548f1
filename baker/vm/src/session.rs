//! One run of a machine under observation: a loop that owns the child and all its lines.
//!
//! Takes a machine and what to expect; gives a verdict. Whatever way it ends, the child is gone.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use baker_contract::{Check, Line, Order, Report};
use baker_model::plan::HttpCheck;
use baker_model::{Event, Listener, Verdict};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixListener;
use tokio::net::unix::OwnedWriteHalf;
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::child::die_with_parent;
use crate::evidence::{Shutdown, milliseconds};
use crate::http;
use crate::judge::{Expectation, Judge, Observation, Phase, kernel_problem};
use crate::lines::{plain_text, pump};
use crate::machine::{Attachment, Machine, Sockets};
use crate::patience::Patience;
use crate::qemu::Qemu;
use crate::qmp::{MachineEvent, Qmp};
use crate::smoke::STAGE;

/// How often deadlines and the wish to stop are looked at.
const TICK: Duration = Duration::from_millis(50);

/// After QEMU's end its sockets are read until they close, but no longer than this.
const DRAIN: Duration = Duration::from_millis(500);

/// Lines waiting for the judge; a guest that prints faster waits.
const BACKLOG: usize = 256;

/// What a run needs.
pub(crate) struct Setting<'a> {
    pub qemu: &'a Qemu,
    pub machine: &'a Machine,
    pub nonce: &'a str,
    pub expectation: Expectation,
    pub http: &'a [HttpCheck],
    pub patience: Patience,
    /// Where QEMU keeps the console log.
    pub serial_log: PathBuf,
    /// Where QEMU's own output goes.
    pub qemu_log: PathBuf,
    /// A private folder for sockets and the overlay.
    pub private: &'a Path,
    pub listener: &'a dyn Listener,
    /// True when the run should end without a verdict.
    pub stop: &'a dyn Fn() -> bool,
}

/// How a run went.
pub(crate) struct Outcome {
    pub verdict: Verdict,
    pub phases: Vec<(Phase, Duration)>,
    pub duration: Duration,
    pub flake: Option<&'static str>,
    pub shutdown: Shutdown,
    pub warnings: Vec<String>,
    pub argv: Vec<OsString>,
}

/// Why a run has no verdict.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    #[error("stopped")]
    Stopped,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Something that a pump or a task brings.
enum Input {
    Console(Option<String>),
    Port(Option<String>),
    Http(usize, Result<(), String>),
    /// The run state after the CPUs stopped.
    Stopped(io::Result<String>),
}

/// Runs the machine until there is a verdict.
pub(crate) async fn observe(setting: &Setting<'_>) -> Result<Outcome, SessionError> {
    let sockets = Sockets {
        qmp: setting.private.join("qmp"),
        serial: setting.private.join("serial"),
        probe: setting.private.join("probe"),
        serial_log: setting.serial_log.clone(),
    };
    // QEMU makes the log when it starts; a run that dies before must not leave an older one.
    drop(File::create(&setting.serial_log)?);
    let argv = setting.machine.argv(Attachment::Observed(&sockets));
    let listeners = Listeners {
        qmp: UnixListener::bind(&sockets.qmp)?,
        serial: UnixListener::bind(&sockets.serial)?,
        probe: UnixListener::bind(&sockets.probe)?,
    };
    let child = spawn(setting, &argv)?;
    let (sender, inputs) = mpsc::channel(BACKLOG);
    let (event_sender, events) = mpsc::unbounded_channel();
    let mut session = Session {
        setting,
        judge: Judge::new(setting.expectation.clone(), setting.patience),
        child,
        start: Instant::now(),
        inputs,
        sender,
        events,
        qmp: None,
        port: None,
        exited: None,
        open_lines: 0,
        announced: 1,
        http_started: false,
    };
    let verdict = match session.judge(listeners, event_sender).await {
        Ok(verdict) => verdict,
        Err(error) => {
            session.kill().await?;
            return Err(error);
        }
    };
    let duration = session.start.elapsed();
    let (shutdown, warnings) = session.end(&verdict).await?;
    let phases = session
        .judge
        .phases()
        .iter()
        .map(|(phase, at)| (*phase, *at))
        .collect();
    let flake = session.judge.flake();
    Ok(Outcome {
        verdict,
        phases,
        duration,
        flake,
        shutdown,
        warnings,
        argv,
    })
}

fn spawn(setting: &Setting<'_>, argv: &[OsString]) -> io::Result<Child> {
    let log = File::create(&setting.qemu_log)?;
    let mut command = Command::new(&setting.qemu.program);
    command
        .args(argv)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    // QEMU puts the throwaway overlays there.
    command.env("TMPDIR", setting.private);
    die_with_parent(&mut command);
    tokio::process::Command::from(command)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

struct Listeners {
    qmp: UnixListener,
    serial: UnixListener,
    probe: UnixListener,
}

struct Session<'a> {
    setting: &'a Setting<'a>,
    judge: Judge,
    child: Child,
    start: Instant,
    inputs: mpsc::Receiver<Input>,
    sender: mpsc::Sender<Input>,
    events: mpsc::UnboundedReceiver<Option<MachineEvent>>,
    qmp: Option<Arc<Qmp>>,
    port: Option<OwnedWriteHalf>,
    exited: Option<(ExitStatus, Instant)>,
    /// Console and control line, while they are open.
    open_lines: u8,
    /// Phases already told to the listener.
    announced: usize,
    http_started: bool,
}

impl Session<'_> {
    async fn judge(
        &mut self,
        listeners: Listeners,
        events: mpsc::UnboundedSender<Option<MachineEvent>>,
    ) -> Result<Verdict, SessionError> {
        match self.connect(listeners, events).await? {
            Some(verdict) => Ok(verdict),
            None => self.watch().await,
        }
    }

    /// Waits for QEMU to connect, negotiates, gives the orders and lets the CPUs run.
    async fn connect(
        &mut self,
        listeners: Listeners,
        events: mpsc::UnboundedSender<Option<MachineEvent>>,
    ) -> Result<Option<Verdict>, SessionError> {
        let sender = self.sender.clone();
        let orders = self.orders();
        let connected = async {
            let (serial, _) = listeners.serial.accept().await?;
            tokio::spawn(pump(serial, sender.clone(), Input::Console));
            let (probe, _) = listeners.probe.accept().await?;
            let (read, mut write) = probe.into_split();
            tokio::spawn(pump(read, sender, Input::Port));
            // QEMU leaves this in the socket until the guest opens the port.
            write.write_all(orders.as_bytes()).await?;
            let (control, _) = listeners.qmp.accept().await?;
            let qmp = Qmp::negotiate(control, events).await?;
            qmp.cont().await?;
            io::Result::Ok((Arc::new(qmp), write))
        };
        tokio::pin!(connected);
        let mut tick = interval(TICK);
        let lost = loop {
            tokio::select! {
                biased;
                result = &mut connected => match result {
                    Ok((qmp, write)) => {
                        self.qmp = Some(qmp);
                        self.port = Some(write);
                        self.open_lines = 2;
                        return Ok(None);
                    }
                    Err(error) => break format!("QEMU cannot be spoken to: {error}"),
                },
                status = self.child.wait() => {
                    self.exited = Some((status?, Instant::now()));
                    break self.exit_text();
                }
                _ = tick.tick() => {
                    if (self.setting.stop)() {
                        return Err(SessionError::Stopped);
                    }
                    if self.start.elapsed() >= self.setting.patience.first_sign {
                        let seconds = self.setting.patience.first_sign.as_secs();
                        break format!("QEMU did not connect to its lines within {seconds} s");
                    }
                }
            }
        };
        // A line that closes is most often the first sign that QEMU ends: its own words say why.
        if self.exited.is_none()
            && let Ok(status) = tokio::time::timeout(DRAIN, self.child.wait()).await
        {
            self.exited = Some((status?, Instant::now()));
        }
        let how = if self.exited.is_some() {
            self.exit_text()
        } else {
            lost
        };
        Ok(self
            .judge
            .observe(self.start.elapsed(), Observation::Exited(how)))
    }

    fn orders(&self) -> String {
        let begin = Order::Begin {
            nonce: self.setting.nonce.to_owned(),
        };
        let units = (0..).zip(&self.setting.expectation.units);
        let units = units.map(|(id, unit)| Order::Check {
            id,
            check: Check::UnitActive { unit: unit.clone() },
        });
        let orders = std::iter::once(begin).chain(units).chain([Order::End]);
        orders
            .map(|order| format!("{}\n", order.to_line()))
            .collect()
    }

    /// The one loop that owns the child, its lines, the deadlines and the wish to stop.
    async fn watch(&mut self) -> Result<Verdict, SessionError> {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let verdict = tokio::select! {
                Some(input) = self.inputs.recv() => self.input(input),
                Some(event) = self.events.recv() => self.event(event),
                status = self.child.wait(), if self.exited.is_none() => {
                    self.exited = Some((status?, Instant::now()));
                    None
                }
                _ = tick.tick() => {
                    if (self.setting.stop)() {
                        return Err(SessionError::Stopped);
                    }
                    self.judge.observe(self.start.elapsed(), Observation::Tick)
                }
            };
            self.announce();
            if let Some(verdict) = verdict.or_else(|| self.after_exit()) {
                return Ok(verdict);
            }
            self.start_http();
        }
    }

    fn input(&mut self, input: Input) -> Option<Verdict> {
        let at = self.start.elapsed();
        match input {
            Input::Console(None) => {
                self.open_lines = self.open_lines.saturating_sub(1);
                None
            }
            Input::Console(Some(line)) => self
                .judge
                .observe(at, Observation::Console(&plain_text(&line))),
            Input::Port(None) => None,
            Input::Port(Some(line)) => {
                let report =
                    Line::parse(&line).and_then(|line| Report::from_line(line, self.setting.nonce));
                let observation = report.map_or(Observation::Stranger, Observation::Report);
                self.judge.observe(at, observation)
            }
            Input::Http(index, result) => self.judge.observe(at, Observation::Http(index, result)),
            Input::Stopped(Ok(state)) if state == "running" || state == "shutdown" => None,
            Input::Stopped(state) => {
                let state = state.unwrap_or_else(|error| error.to_string());
                let how = format!("QEMU stopped the guest ({state})");
                self.judge.observe(at, Observation::Lost(how))
            }
        }
    }

    fn event(&mut self, event: Option<MachineEvent>) -> Option<Verdict> {
        let Some(event) = event else {
            self.open_lines = self.open_lines.saturating_sub(1);
            self.qmp = None;
            let how = "QEMU closed its control line".to_owned();
            return self
                .judge
                .observe(self.start.elapsed(), Observation::Lost(how));
        };
        if event == MachineEvent::Stopped
            && let Some(qmp) = self.qmp.clone()
        {
            let sender = self.sender.clone();
            tokio::spawn(async move {
                // The receiver may be gone: then nobody needs the answer.
                drop(sender.send(Input::Stopped(qmp.status().await)).await);
            });
        }
        self.judge
            .observe(self.start.elapsed(), Observation::Machine(event))
    }

    /// Once QEMU has ended and its lines are read to their ends, that is an observation too.
    fn after_exit(&mut self) -> Option<Verdict> {
        let (_, since) = self.exited?;
        let drained = self.open_lines == 0 && self.inputs.is_empty() && self.events.is_empty();
        if !drained && since.elapsed() < DRAIN {
            return None;
        }
        let how = self.exit_text();
        self.judge
            .observe(self.start.elapsed(), Observation::Exited(how))
    }

    fn exit_text(&self) -> String {
        let status = match self.exited {
            Some((status, _)) => format!("QEMU ended by itself ({status})"),
            None => "QEMU ended by itself".to_owned(),
        };
        let log = std::fs::read(&self.setting.qemu_log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        match log.lines().map(str::trim).rfind(|line| !line.is_empty()) {
            Some(line) => format!("{status}: {line}"),
            None => status,
        }
    }

    fn announce(&mut self) {
        let phases = self.judge.phases();
        if phases.len() == self.announced {
            return;
        }
        self.announced = phases.len();
        if let Some((phase, at)) = phases.iter().next_back() {
            let text = format!("{} after {:.1} s", phase.name(), at.as_secs_f64());
            self.setting
                .listener
                .event(Event::Note { stage: STAGE, text });
        }
    }

    /// Once the guest has settled, the checks from outside begin.
    fn start_http(&mut self) {
        let settled = self.judge.phases().contains_key(&Phase::Done);
        let Some(qmp) = self.qmp.clone().filter(|_| settled && !self.http_started) else {
            return;
        };
        self.http_started = true;
        let checks = self.setting.http.to_vec();
        let patience = self.setting.patience.http;
        let sender = self.sender.clone();
        tokio::spawn(async move {
            let forwards = qmp.forwards().await.unwrap_or_default();
            for (index, check) in checks.iter().enumerate() {
                let host = forwards.iter().find(|(guest, _)| *guest == check.port);
                let result = match host {
                    Some((_, host)) => http::check(check, *host, patience).await,
                    None => Err(format!("QEMU does not forward port {}", check.port)),
                };
                if sender.send(Input::Http(index, result)).await.is_err() {
                    return;
                }
            }
        });
    }

    /// After a pass the guest is asked to power off; after a failure, or when it does not, it is
    /// killed. A guest that hangs while it powers off has passed all the same: the promise of a
    /// pass is that the image boots and serves, so this becomes a warning in the evidence.
    async fn end(&mut self, verdict: &Verdict) -> Result<(Shutdown, Vec<String>), SessionError> {
        let mut warnings = Vec::new();
        let mut shutdown = Shutdown::Killed;
        if verdict.is_passed() && self.exited.is_none() {
            shutdown = self.power_off(&mut warnings).await?;
        }
        if self.exited.is_none() {
            self.kill().await?;
        }
        Ok((shutdown, warnings))
    }

    async fn power_off(&mut self, warnings: &mut Vec<String>) -> Result<Shutdown, SessionError> {
        let asked = Instant::now();
        let order = format!("{}\n", Order::PowerOff.to_line());
        if let Some(port) = &mut self.port
            && let Err(error) = port.write_all(order.as_bytes()).await
        {
            warnings.push(format!(
                "the guest could not be asked to power off: {error}"
            ));
            return Ok(Shutdown::Killed);
        }
        let mut tick = interval(TICK);
        loop {
            tokio::select! {
                status = self.child.wait() => {
                    self.exited = Some((status?, Instant::now()));
                    let milliseconds = milliseconds(asked.elapsed());
                    return Ok(Shutdown::Clean { milliseconds });
                }
                Some(input) = self.inputs.recv() => {
                    if let Input::Console(Some(line)) = input
                        && let Some(problem) = kernel_problem(&plain_text(&line))
                    {
                        warnings.push(format!("while powering off: {problem}"));
                    }
                }
                Some(_) = self.events.recv() => {}
                _ = tick.tick() => {
                    if (self.setting.stop)() {
                        return Err(SessionError::Stopped);
                    }
                    if asked.elapsed() >= self.setting.patience.power_off {
                        let seconds = self.setting.patience.power_off.as_secs();
                        warnings.push(format!("the guest did not power off within {seconds} s"));
                        return Ok(Shutdown::Hung);
                    }
                }
            }
        }
    }

    async fn kill(&mut self) -> io::Result<()> {
        if let Some(id) = self.child.id().and_then(|id| i32::try_from(id).ok()) {
            // The group is gone when QEMU ended just now; then there is nothing to kill.
            killpg(Pid::from_raw(id), Signal::SIGKILL).ok();
        }
        self.exited = Some((self.child.wait().await?, Instant::now()));
        Ok(())
    }
}
