//! The neighbours of one run: their QEMUs, and who speaks with them.
//!
//! Each has a task that owns its lines. When [`Neighbours`] is dropped, all of them are killed.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use baker_contract::Line;
use baker_contract::neighbour::{End, Order, Report};
use baker_model::plan::{Neighbour, Reach};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, ChildStdin};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::NeighbourFiles;
use super::machine::NeighbourMachine;
use crate::child::die_with_parent;
use crate::lines::{Piece, plain_text, pump};
use crate::machine::Machine;
use crate::qemu::Qemu;

/// Lines waiting to be read; a neighbour that prints faster waits.
const BACKLOG: usize = 64;

/// What a neighbour may need beyond the time of a try, on a loaded host, to say how it ended.
const LATITUDE: Duration = Duration::from_secs(20);

/// Name of a neighbour's console log inside the evidence folder.
pub(crate) fn log_name(neighbour: &str) -> String {
    format!("neighbour-{neighbour}.log")
}

/// The neighbours of one run.
#[derive(Default)]
pub(crate) struct Neighbours(BTreeMap<String, Desk>);

/// What is needed to start them.
pub(crate) struct Start<'a> {
    pub qemu: &'a Qemu,
    /// The machine under test: neighbours have its CPUs and accelerator.
    pub machine: &'a Machine,
    pub files: &'a NeighbourFiles,
    pub neighbours: &'a [Neighbour],
    /// Folder of the links' sockets.
    pub links: &'a Path,
    /// Folder of the logs.
    pub work: &'a Path,
}

/// Where one neighbour is spoken with.
struct Desk {
    state: watch::Receiver<State>,
    asks: mpsc::Sender<Ask>,
    _child: Child,
}

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Starting,
    Up,
    Lost(String),
}

struct Ask {
    target: String,
    milliseconds: u32,
    answer: oneshot::Sender<End>,
}

impl Neighbours {
    /// Starts them all.
    pub(crate) fn start(start: &Start<'_>) -> io::Result<Self> {
        let mut all = BTreeMap::new();
        for (number, neighbour) in (1..).zip(start.neighbours) {
            let desk = open(start, number, neighbour)?;
            all.insert(neighbour.name.clone(), desk);
        }
        Ok(Self(all))
    }

    /// Waits until it has its address.
    pub(super) async fn up(&self, name: &str, patience: Duration) -> Result<String, String> {
        let mut state = self.desk(name)?.state.clone();
        let come = timeout(patience, state.wait_for(|state| *state != State::Starting)).await;
        match come {
            Ok(Ok(state)) => match &*state {
                State::Lost(how) => Err(how.clone()),
                _ => Ok("it is".to_owned()),
            },
            Ok(Err(_)) => Err("nobody speaks with it".to_owned()),
            Err(_) => Err(format!("not within {} s", patience.as_secs())),
        }
    }

    /// Has it connect once.
    pub(super) async fn reach(
        &self,
        name: &str,
        reach: &Reach,
        patience: Duration,
    ) -> Result<End, String> {
        let desk = self.desk(name)?;
        let lost = || match &*desk.state.borrow() {
            State::Starting => format!("the neighbour {name} is not up"),
            State::Up => format!("the neighbour {name} does not answer"),
            State::Lost(how) => format!("the neighbour {name} is lost: {how}"),
        };
        if *desk.state.borrow() != State::Up {
            return Err(lost());
        }
        let (answer, end) = oneshot::channel();
        let ask = Ask {
            target: format!("{}:{}", reach.address, reach.port),
            milliseconds: u32::try_from(patience.as_millis()).unwrap_or(u32::MAX),
            answer,
        };
        if desk.asks.send(ask).await.is_err() {
            return Err(lost());
        }
        match timeout(patience + LATITUDE, end).await {
            Ok(Ok(end)) => Ok(end),
            _ => Err(lost()),
        }
    }

    fn desk(&self, name: &str) -> Result<&Desk, String> {
        let desk = self.0.get(name);
        desk.ok_or_else(|| format!("there is no neighbour {name}"))
    }
}

fn open(start: &Start<'_>, number: usize, neighbour: &Neighbour) -> io::Result<Desk> {
    let log = start.work.join(log_name(&neighbour.name));
    drop(File::create(&log)?);
    let machine = NeighbourMachine {
        qemu: start.qemu,
        cpu: &start.machine.cpu,
        accelerator: start.machine.accelerator,
        files: start.files,
        number,
        links: start.links,
        log: &log,
    };
    let mut command = Command::new(&start.qemu.program);
    command
        .args(machine.argv())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(OpenOptions::new().append(true).open(&log)?);
    die_with_parent(&mut command);
    let mut child = tokio::process::Command::from(command)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(io::ErrorKind::BrokenPipe.into());
    };
    let (sender, pieces) = mpsc::channel(BACKLOG);
    tokio::spawn(pump(stdout, sender, |piece| piece));
    let (told, state) = watch::channel(State::Starting);
    let (asks, asked) = mpsc::channel(1);
    let clerk = Clerk {
        stdin,
        be: Order::Be {
            name: neighbour.name.clone(),
            address: neighbour.address.clone(),
            gateway: neighbour.gateway.map(|gateway| gateway.to_string()),
            serves: neighbour.serves.clone(),
        },
        state: told,
        open: BTreeMap::new(),
        last_line: String::new(),
    };
    tokio::spawn(clerk.attend(pieces, asked));
    Ok(Desk {
        state,
        asks,
        _child: child,
    })
}

/// Who speaks with one neighbour.
struct Clerk {
    stdin: ChildStdin,
    be: Order,
    state: watch::Sender<State>,
    /// Who waits for an answer, by its id.
    open: BTreeMap<u32, oneshot::Sender<End>>,
    last_line: String,
}

impl Clerk {
    /// Takes lines and orders until the neighbour or the run is over. Whoever waits for an answer
    /// then gets none.
    async fn attend(mut self, mut pieces: mpsc::Receiver<Piece>, mut asks: mpsc::Receiver<Ask>) {
        let mut id = 0;
        loop {
            let heard = tokio::select! {
                piece = pieces.recv() => match piece {
                    Some(Piece::Line(line)) => self.hear(&plain_text(&line)).await,
                    Some(Piece::Prompt(_)) => Ok(()),
                    Some(Piece::End) | None => Err(format!("it ended; its last line is `{}`", self.last_line)),
                },
                Some(ask) = asks.recv() => {
                    id += 1;
                    self.open.insert(id, ask.answer);
                    let (target, milliseconds) = (ask.target, ask.milliseconds);
                    self.say(&Order::Reach { id, target, milliseconds }).await
                }
            };
            if let Err(how) = heard {
                self.state.send_replace(State::Lost(how));
                return;
            }
        }
    }

    async fn hear(&mut self, text: &str) -> Result<(), String> {
        let line = Line::parse(text);
        let Some(report) = line.as_ref().and_then(Report::from_line) else {
            if !text.trim().is_empty() {
                text.trim().clone_into(&mut self.last_line);
            }
            return Ok(());
        };
        match report {
            Report::Ready => self.say(&self.be.clone()).await,
            Report::Up => {
                self.state.send_replace(State::Up);
                Ok(())
            }
            Report::Failed { problem } => Err(problem),
            Report::Reached { id, end } => {
                if let Some(answer) = self.open.remove(&id) {
                    // Who asked may have stopped waiting.
                    answer.send(end).ok();
                }
                Ok(())
            }
        }
    }

    async fn say(&mut self, order: &Order) -> Result<(), String> {
        let text = format!("{}\n", order.to_line());
        let written = self.stdin.write_all(text.as_bytes()).await;
        written.map_err(|error| format!("QEMU does not take what is said to it: {error}"))
    }
}

#[cfg(test)]
#[path = "desk_tests.rs"]
mod tests;
