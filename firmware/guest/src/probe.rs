//! The smoke probe: tells the host what the booted system is, and how it is.
//!
//! Takes [`Order`] lines from the probe port; gives [`Report`] lines that carry the run's nonce.
//! Changes nothing in the system but what the host orders: a marker, a restart, the end.

mod facts;
mod orders;
mod reporter;
mod watch;

use std::fs::File;
use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use baker_contract::{Order, Report};
use nix::sys::reboot::{RebootMode, reboot};

use crate::checks::Checks;
use crate::port::{self, Way};
use crate::systemd::{Ending, Systemd};
use orders::Orders;
use reporter::Reporter;
use watch::{Sign, Trouble};

/// More questions, or more bytes of them, come from no sane host.
const ORDER_LIMIT: usize = 1024;
const ORDER_BYTES: usize = 4 << 20;

/// Attempts at a clean end before the machine is ended without one, and the time between two.
const END_ATTEMPTS: u32 = 3;
const END_PAUSE: Duration = Duration::from_millis(300);

/// Serves the host until it ends the guest.
///
/// # Errors
/// There is no port, it breaks, or the host does not speak the contract.
pub fn run() -> Result<(), String> {
    let (way, path) = [Way::Carried, Way::Disk]
        .into_iter()
        .find_map(|way| Some((way, port::find(way)?)))
        .ok_or("no probe port")?;
    File::options()
        .read(true)
        .write(true)
        .open(&path)
        .and_then(|file| Probe::start(file, way)?.serve())
        .map_err(|error| format!("{}: {error}", path.display()))
}

/// What happens to the probe.
enum Input {
    Order(Order),
    /// The boot is over.
    Settled,
    Broken(io::Error),
}

struct Probe {
    reporter: Reporter,
    inputs: Receiver<Input>,
    signs: Sender<Sign>,
    stage: Stage,
    settled: bool,
    /// What is to be answered once the boot is over, and how many bytes of it.
    questions: Vec<Order>,
    bytes: usize,
}

/// How far the run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The host has not begun.
    Idle,
    /// The host asks.
    Asked,
    /// All is asked; the boot may not be over.
    Complete,
    /// All is said.
    Done,
}

impl Probe {
    fn start(port: File, way: Way) -> io::Result<Self> {
        let (sender, inputs) = mpsc::channel();
        let orders = Orders::new(port.try_clone()?);
        let reporter = Reporter::start(port);
        read_orders(orders, sender.clone());
        let settled = sender.clone();
        let signs = watch::start(
            &reporter,
            way,
            // The receiver lives as long as the program.
            move || settled.send(Input::Settled).unwrap_or_default(),
            move |error| sender.send(Input::Broken(error)).unwrap_or_default(),
        )?;
        Ok(Self {
            reporter,
            inputs,
            signs,
            stage: Stage::Idle,
            settled: false,
            questions: Vec::new(),
            bytes: 0,
        })
    }

    fn serve(mut self) -> io::Result<()> {
        loop {
            let input = self.inputs.recv().map_err(io::Error::other)?;
            match input {
                Input::Broken(error) => return Err(error),
                Input::Settled => self.settled = true,
                Input::Order(order) => {
                    if let Some(ending) = self.order(order)? {
                        end(ending);
                        return Ok(());
                    }
                }
            }
            if self.settled && self.stage == Stage::Complete {
                self.answer_all()?;
            }
        }
    }

    /// Does what is to be done at once; gives how to end the machine, once that is ordered.
    fn order(&mut self, order: Order) -> io::Result<Option<Ending>> {
        match (order, self.stage) {
            (Order::Begin { nonce }, _) => {
                // A host that begins anew has forgotten all, or never heard it.
                self.questions.clear();
                self.bytes = 0;
                self.stage = Stage::Asked;
                self.reporter.begin(&nonce);
                self.reporter.send(&facts::hello())?;
                self.look();
            }
            // The rest of what was said to a guest before it restarted.
            (_, Stage::Idle) => {}
            (Order::End, Stage::Asked) => self.stage = Stage::Complete,
            (Order::End, _) => {}
            (Order::Look, _) => self.look(),
            (Order::Words { unit }, _) => watch::tell_words(&self.reporter, vec![unit]),
            (Order::PowerOff, _) => return Ok(Some(Ending::PowerOff)),
            (Order::Restart, _) => return Ok(Some(Ending::Restart)),
            (order, Stage::Done) => self.answer(&mut Checks::new(self.reporter.nonce()), &order)?,
            (order, Stage::Asked | Stage::Complete) => {
                self.bytes += order.to_line().to_string().len();
                if self.questions.len() >= ORDER_LIMIT || self.bytes > ORDER_BYTES {
                    return Err(io::Error::other("too many orders"));
                }
                self.questions.push(order);
            }
        }
        Ok(None)
    }

    fn look(&self) {
        // The watch ends only together with the port, and that says so itself.
        self.signs.send(Sign::Look).unwrap_or_default();
    }

    fn answer_all(&mut self) -> io::Result<()> {
        let mut checks = Checks::new(self.reporter.nonce());
        for order in std::mem::take(&mut self.questions) {
            self.answer(&mut checks, &order)?;
        }
        self.stage = Stage::Done;
        // What failed meanwhile belongs to the run.
        let state = match watch::look(&self.reporter) {
            Ok((state, _)) => state.system,
            Err(Trouble::Port(error)) => return Err(error),
            Err(Trouble::Systemd(error)) => format!("unreachable: {error}"),
        };
        self.reporter.finish(&facts::done(state))
    }

    fn answer(&self, checks: &mut Checks, order: &Order) -> io::Result<()> {
        let reporter = &self.reporter;
        let task = format!("{}/check", order.to_line().word);
        let working = |detail: &str| {
            let job = if detail.is_empty() {
                task.clone()
            } else {
                format!("{task} {detail}")
            };
            reporter.note(|status| status.job = job);
        };
        working("");
        let (id, answer) = match order {
            Order::Check { id, check } => (Some(*id), checks.answer(check, &working)),
            Order::Mark { id, folder } => (Some(*id), checks.mark(folder)),
            // An order that this probe cannot fulfil must not pass for fulfilled.
            other => (None, crate::checks::unknown(&other.to_line().word)),
        };
        if let Some(id) = id {
            for text in answer.findings {
                reporter.send(&Report::Finding { id, text })?;
            }
        }
        reporter.note(|status| status.job.clear());
        reporter.send(&Report::Check {
            id,
            holds: answer.holds,
            found: answer.found,
        })
    }
}

/// Reads orders in a thread of their own: they are taken off the port whatever else goes on.
fn read_orders(mut orders: Orders<File>, inputs: Sender<Input>) {
    std::thread::spawn(move || {
        loop {
            let (input, last) = match orders.next() {
                Ok(order) => (Input::Order(order), false),
                Err(error) => (Input::Broken(error), true),
            };
            if inputs.send(input).is_err() || last {
                return;
            }
        }
    });
}

/// systemd's clean way; failing that, an unclean one: the host waits for the end of the machine.
fn end(ending: Ending) {
    for _ in 0..END_ATTEMPTS {
        if Systemd::connect()
            .and_then(|mut systemd| systemd.end(ending))
            .is_ok()
        {
            return;
        }
        std::thread::sleep(END_PAUSE);
    }
    nix::unistd::sync();
    let mode = match ending {
        Ending::PowerOff => RebootMode::RB_POWER_OFF,
        Ending::Restart => RebootMode::RB_AUTOBOOT,
    };
    reboot(mode).err();
}
