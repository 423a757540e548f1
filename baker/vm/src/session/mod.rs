//! One run of a machine under observation: a loop that owns the child and all its lines.
//!
//! Takes a machine and a judge; gives the judge back with every verdict. Whatever way it ends, the
//! child is gone.

mod connect;
mod end;

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use baker_contract::{Line, Order, Report};
use baker_model::plan::Neighbour;
use baker_model::{Event, Listener, Verdict};
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::OwnedWriteHalf;
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::child::die_with_parent;
use crate::evidence::Shutdown;
use crate::http::Window;
use crate::judge::{Judge, Observation, Wish};
use crate::lines::{Piece, plain_text};
use crate::machine::{Attachment, Machine, Sockets, Tpm};
use crate::neighbour::{self, NeighbourFiles, Neighbours};
use crate::outside::{Luggage, Outside};
use crate::qemu::Qemu;
use crate::qmp::{MachineEvent, Qmp};
use crate::smoke::STAGE;
use crate::{tpm, work};
use connect::Listeners;

/// How often deadlines and the wish to stop are looked at.
const TICK: Duration = Duration::from_millis(50);

/// How often the work of the guest's CPUs is looked at.
const WORK: Duration = Duration::from_secs(1);

/// The console's last words before a reset may be read after QEMU's word of it: so long they are
/// waited for. No firmware speaks sooner.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// After QEMU's end its sockets are read until they close, but no longer than this.
const DRAIN: Duration = Duration::from_millis(500);

/// Lines waiting for the judge; a guest that prints faster waits.
const BACKLOG: usize = 256;

/// What a run needs.
pub(crate) struct Setting<'a> {
    pub qemu: &'a Qemu,
    pub machine: &'a Machine,
    pub nonce: &'a str,
    pub timing: Timing,
    /// Folder of the logs.
    pub work: &'a Path,
    /// Where QEMU keeps the console log.
    pub serial_log: PathBuf,
    /// Where QEMU's own output goes.
    pub qemu_log: PathBuf,
    /// Where a picture of the guest's screen goes.
    pub screenshot: PathBuf,
    /// A private folder for sockets and the overlay.
    pub private: &'a Path,
    /// What belongs to the machine's credentials on this side.
    pub luggage: Arc<Luggage>,
    /// Its neighbours, when it has any, and what they boot.
    pub neighbours: Option<(&'a [Neighbour], &'a NeighbourFiles)>,
    pub listener: &'a dyn Listener,
    /// True when the run should end without a verdict.
    pub stop: &'a dyn Fn() -> bool,
}

/// What the session itself waits for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    /// QEMU's connection to its lines.
    pub connect: Duration,
    /// A clean power-off.
    pub power_off: Duration,
}

/// How a run went; the judge has the verdicts.
pub(crate) struct Outcome {
    pub judge: Judge,
    pub shutdown: Shutdown,
    /// Whether there is a picture of the screen.
    pub pictured: bool,
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
    Console(Piece),
    Port(Piece),
    Outside(Outside, Result<String, String>),
    /// The run state after the CPUs stopped.
    Stopped(io::Result<String>),
}

/// Runs the machine until every plan has its verdict.
pub(crate) async fn observe(setting: &Setting<'_>, judge: Judge) -> Result<Outcome, SessionError> {
    let sockets = Sockets {
        qmp: setting.private.join("qmp"),
        serial: setting.private.join("serial"),
        probe: setting.private.join("probe"),
        tpm: setting.private.join("tpm"),
        links: setting.private.to_owned(),
        serial_log: setting.serial_log.clone(),
    };
    // QEMU makes the log when it starts; a run that dies before must not leave an older one.
    drop(File::create(&setting.serial_log)?);
    match std::fs::remove_file(&setting.screenshot) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let argv = setting.machine.argv(Attachment::Observed(&sockets));
    let listeners = Listeners::bind(&sockets, &setting.machine.probe)?;
    // Dropped, and so killed, when the run is over.
    let _tpm = match setting.machine.tpm {
        Tpm::None => None,
        Tpm::Emulated => Some(tpm::start(&sockets.tpm, setting.private).await?),
    };
    // The same: no word of theirs is waited for behind the verdict.
    let neighbours = Arc::new(neighbours(setting)?);
    let child = spawn(setting, &argv)?;
    let (sender, inputs) = mpsc::channel(BACKLOG);
    let (event_sender, events) = mpsc::unbounded_channel();
    let mut session = Session {
        setting,
        judge,
        child,
        start: Instant::now(),
        inputs,
        sender,
        events,
        qmp: None,
        port: None,
        neighbours,
        exited: None,
        reset: None,
        open_lines: 0,
        announced: 1,
        told: 0,
        pictured: false,
    };
    let over = session.run(listeners, event_sender).await;
    if let Err(error) = over {
        session.kill().await?;
        return Err(error);
    }
    let (shutdown, warnings) = session.end().await?;
    Ok(Outcome {
        judge: session.judge,
        shutdown,
        pictured: session.pictured,
        warnings,
        argv,
    })
}

fn neighbours(setting: &Setting<'_>) -> io::Result<Neighbours> {
    let Some((neighbours, files)) = setting.neighbours else {
        return Ok(Neighbours::default());
    };
    Neighbours::start(&neighbour::Start {
        qemu: setting.qemu,
        machine: setting.machine,
        files,
        neighbours,
        links: setting.private,
        work: setting.work,
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
    neighbours: Arc<Neighbours>,
    exited: Option<(ExitStatus, Instant)>,
    /// A reset that the judge has not been told of.
    reset: Option<Instant>,
    /// Console and control line, while they are open.
    open_lines: u8,
    /// Phases already told to the listener.
    announced: usize,
    /// Failures already told to the listener.
    told: usize,
    pictured: bool,
}

impl Session<'_> {
    async fn run(
        &mut self,
        listeners: Listeners,
        events: mpsc::UnboundedSender<Option<MachineEvent>>,
    ) -> Result<(), SessionError> {
        let connected = self.connect(listeners, events).await?;
        if connected {
            self.watch().await
        } else {
            Ok(())
        }
    }

    /// The one loop that owns the child, its lines, the deadlines and the wish to stop.
    async fn watch(&mut self) -> Result<(), SessionError> {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut work = interval(WORK);
        work.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let over = tokio::select! {
                Some(input) = self.inputs.recv() => self.input(input),
                Some(event) = self.events.recv() => self.event(event),
                status = self.child.wait(), if self.exited.is_none() => {
                    self.exited = Some((status?, Instant::now()));
                    false
                }
                _ = work.tick() => self.work(),
                _ = tick.tick() => {
                    if (self.setting.stop)() {
                        return Err(SessionError::Stopped);
                    }
                    self.reset() || self.tell(Observation::Tick)
                }
            };
            self.announce();
            if over || self.after_exit() {
                return Ok(());
            }
            for wish in self.judge.wishes() {
                self.grant(wish).await;
            }
        }
    }

    fn tell(&mut self, observation: Observation<'_>) -> bool {
        self.judge.observe(self.start.elapsed(), observation)
    }

    /// Tells of a reset once the lines before it have been read.
    fn reset(&mut self) -> bool {
        let Some(at) = self.reset.take_if(|at| at.elapsed() >= LAST_WORDS) else {
            return false;
        };
        let at = at.duration_since(self.start);
        let event = Observation::Machine(MachineEvent::Reset);
        self.judge.observe(at, event)
    }

    fn work(&mut self) -> bool {
        let worked = self.child.id().and_then(work::wanted);
        worked.is_some_and(|work| self.tell(Observation::Worked(work)))
    }

    fn input(&mut self, input: Input) -> bool {
        match input {
            Input::Console(Piece::End) => {
                self.open_lines = self.open_lines.saturating_sub(1);
                false
            }
            Input::Console(Piece::Line(line)) => {
                // What a carriage return overwrites was a line to whoever saw it.
                let mut parts = line.split('\r').map(plain_text);
                parts.any(|text| self.tell(Observation::Console(&text)))
            }
            Input::Console(Piece::Prompt(text)) => {
                let shown = text
                    .rsplit('\r')
                    .map(plain_text)
                    .find(|text| !text.is_empty());
                shown.is_some_and(|text| self.tell(Observation::Prompt(&text)))
            }
            Input::Port(Piece::Line(line)) => {
                let report =
                    Line::parse(&line).and_then(|line| Report::from_line(line, self.setting.nonce));
                let observation = report.map_or(Observation::Stranger, Observation::Report);
                self.tell(observation)
            }
            Input::Port(_) => false,
            Input::Outside(check, result) => self.tell(Observation::Outside(&check, result)),
            Input::Stopped(Ok(state)) if state == "running" || state == "shutdown" => false,
            Input::Stopped(state) => {
                let state = state.unwrap_or_else(|error| error.to_string());
                let how = format!("QEMU stopped the guest ({state})");
                self.tell(Observation::Lost(how))
            }
        }
    }

    fn event(&mut self, event: Option<MachineEvent>) -> bool {
        let Some(event) = event else {
            self.open_lines = self.open_lines.saturating_sub(1);
            self.qmp = None;
            let how = "QEMU closed its control line".to_owned();
            return self.tell(Observation::Lost(how));
        };
        if event == MachineEvent::Reset {
            self.reset.get_or_insert_with(Instant::now);
            return false;
        }
        if event == MachineEvent::Stopped
            && let Some(qmp) = self.qmp.clone()
        {
            let sender = self.sender.clone();
            tokio::spawn(async move {
                // The receiver may be gone: then nobody needs the answer.
                drop(sender.send(Input::Stopped(qmp.status().await)).await);
            });
        }
        self.tell(Observation::Machine(event))
    }

    /// Once QEMU has ended and its lines are read to their ends, that is an observation too.
    fn after_exit(&mut self) -> bool {
        let Some((_, since)) = self.exited else {
            return false;
        };
        let drained = self.open_lines == 0 && self.inputs.is_empty() && self.events.is_empty();
        if !drained && since.elapsed() < DRAIN {
            return false;
        }
        let how = self.exit_text();
        self.tell(Observation::Exited(how))
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
        self.announce_verdicts();
        let phases: Vec<_> = self.judge.boots().flat_map(|boot| &boot.phases).collect();
        if phases.len() == self.announced {
            return;
        }
        self.announced = phases.len();
        if let Some((phase, at)) = phases.last() {
            let text = format!("{} after {:.1} s", phase.name(), at.as_secs_f64());
            self.setting
                .listener
                .event(Event::Note { stage: STAGE, text });
        }
    }

    /// A failure is told when it is known, not when its evidence is complete.
    fn announce_verdicts(&mut self) {
        let rulings = self.judge.cases().iter().filter_map(|case| case.ruling());
        let failed = rulings.filter(|ruling| ruling.verdict != Verdict::Passed);
        let failed: Vec<_> = failed.collect();
        for ruling in failed.iter().skip(self.told) {
            let text = format!("{} after {:.1} s", ruling.verdict, ruling.at.as_secs_f64());
            let stage = STAGE;
            self.setting.listener.event(Event::Note { stage, text });
        }
        self.told = failed.len();
    }

    async fn grant(&mut self, wish: Wish) {
        match wish {
            Wish::Orders(orders) => self.order(&orders).await,
            Wish::Requests(window) => self.request(window),
        }
    }

    /// Writes orders to the probe. QEMU leaves them in the socket until the guest opens the port.
    async fn order(&mut self, orders: &[Order]) {
        let text: String = orders
            .iter()
            .map(|order| format!("{}\n", order.to_line()))
            .collect();
        if let Some(port) = &mut self.port
            && let Err(error) = port.write_all(text.as_bytes()).await
        {
            let how = format!("QEMU does not take what is said to the probe: {error}");
            self.tell(Observation::Lost(how));
        }
    }

    /// Begins the checks from outside.
    fn request(&mut self, window: Window) {
        let Some(qmp) = self.qmp.clone() else { return };
        let checks = self.judge.requests().to_vec();
        let sender = self.sender.clone();
        let luggage = Arc::clone(&self.setting.luggage);
        let neighbours = Arc::clone(&self.neighbours);
        tokio::spawn(async move {
            let forwards = qmp.forwards().await.unwrap_or_default();
            for check in checks {
                let with = (Arc::clone(&luggage), &*neighbours);
                let result = check.ask(&forwards, window, with).await;
                if sender.send(Input::Outside(check, result)).await.is_err() {
                    return;
                }
            }
        });
    }

    /// True when every plan has passed.
    fn passed(&self) -> bool {
        let rulings = self.judge.cases().iter().map(|case| case.ruling());
        rulings
            .flatten()
            .all(|ruling| ruling.verdict == Verdict::Passed)
    }
}
