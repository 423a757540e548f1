//! The smoke probe: tells the host what the booted system is, and how it is.
//!
//! Takes [`Order`] lines from the probe port; gives [`Report`] lines that carry the run's nonce.
//! Changes nothing in the system until the host asks it to power off.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use baker_contract::{Check, Line, Order, Report};
use nix::sys::reboot::{RebootMode, reboot};

use crate::dm::DeviceMapper;
use crate::systemd::{State, Systemd};
use crate::{handover::NOTIFY_SOCKET, port, verity};

/// Between two looks at systemd once it has said that the boot is over.
const POLL: Duration = Duration::from_millis(300);

/// Between two looks before that: for failed units, and in case the word never comes. Rare,
/// because each one burdens the boot, see [`Systemd`].
const RARE_POLL: Duration = Duration::from_secs(8);

/// Between two signs of life; the contract wants one every second at least.
const HEARTBEAT: Duration = Duration::from_millis(700);

/// Between two reads of a port whose host side is not there yet.
const RETRY: Duration = Duration::from_millis(50);

/// Longer lines and more orders than these come from no sane host.
const LINE_LIMIT: usize = 4096;
const ORDER_LIMIT: usize = 1024;

/// Attempts at a clean shutdown before the machine is ended without one.
const SHUTDOWN_ATTEMPTS: u32 = 3;

/// Serves one host for one run.
///
/// # Errors
/// There is no port, it breaks, or the host does not speak the contract.
pub fn run() -> Result<(), String> {
    let path = port::find().ok_or("no probe port")?;
    let describe = |error: io::Error| format!("{}: {error}", path.display());
    let file = File::options()
        .read(true)
        .write(true)
        .open(&path)
        .map_err(describe)?;
    let mut orders = Orders {
        port: file.try_clone().map_err(describe)?,
        buffer: Vec::new(),
    };
    let (nonce, orders_of_run) = orders.opening().map_err(describe)?;
    let reporter = Reporter {
        port: Arc::new(Mutex::new(file)),
        nonce,
    };
    serve(&reporter, &orders_of_run).map_err(describe)?;
    loop {
        match orders.next().map_err(describe)? {
            Order::PowerOff => {
                power_off();
                return Ok(());
            }
            other => reporter.send(&refusal(&other)).map_err(describe)?,
        }
    }
}

/// Hello, signs of life until the boot is over, findings, done.
fn serve(reporter: &Reporter, orders: &[Order]) -> io::Result<()> {
    reporter.send(&Report::Hello {
        root_hash: root_hash(),
        kernel: first_line("/proc/sys/kernel/osrelease"),
        boot_id: first_line("/proc/sys/kernel/random/boot_id"),
        secure_boot: String::new(),
        uptime_ms: uptime_ms(),
    })?;
    let mut told = BTreeSet::new();
    let (state, mut systemd) = watch(reporter, &mut told)?;
    for order in orders {
        reporter.send(&answer(order, &mut systemd))?;
    }
    reporter.send(&Report::Done {
        state: state.system,
        root_hash: root_hash(),
        uptime_ms: uptime_ms(),
        memory_kib: memory_kib(&fs::read_to_string("/proc/meminfo").unwrap_or_default()),
    })
}

/// Watches systemd until it has settled; tells of each failed unit once, as soon as it is seen.
fn watch(reporter: &Reporter, told: &mut BTreeSet<String>) -> io::Result<(State, Systemd)> {
    let heartbeat = Heartbeat::start(reporter);
    let finished = boot_finished()?;
    let mut pause = RARE_POLL;
    loop {
        match finished.recv_timeout(pause) {
            Ok(()) => pause = POLL,
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => std::thread::sleep(pause),
        }
        match look(reporter, told, &heartbeat) {
            Ok((state, systemd)) if state.settled() => {
                heartbeat.stop();
                return Ok((state, systemd));
            }
            Ok(_) => {}
            // Ours to report: without the port there is nobody to tell.
            Err(Trouble::Port(error)) => return Err(error),
            Err(Trouble::Systemd(error)) => heartbeat.note(&format!("unreachable: {error}"), 0),
        }
    }
}

/// Hears of the end of the boot from systemd itself.
///
/// A thread of its own takes the messages off the socket, whatever else goes on: systemd blocks
/// when the queue is full, and nobody who waits for systemd may be the one to empty it.
fn boot_finished() -> io::Result<Receiver<()>> {
    match fs::remove_file(NOTIFY_SOCKET) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = UnixDatagram::bind(NOTIFY_SOCKET)?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut message = [0; 4096];
        while let Ok(length) = socket.recv(&mut message) {
            if says_ready(&message[..length]) && sender.send(()).is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

fn says_ready(message: &[u8]) -> bool {
    message
        .split(|&byte| byte == b'\n')
        .any(|line| line == b"READY=1")
}

enum Trouble {
    Port(io::Error),
    Systemd(io::Error),
}

fn look(
    reporter: &Reporter,
    told: &mut BTreeSet<String>,
    heartbeat: &Heartbeat,
) -> Result<(State, Systemd), Trouble> {
    let mut systemd = Systemd::connect().map_err(Trouble::Systemd)?;
    let state = systemd.state().map_err(Trouble::Systemd)?;
    heartbeat.note(&state.system, state.jobs);
    if state.failed > 0 {
        for unit in systemd.failed_units().map_err(Trouble::Systemd)? {
            if told.insert(unit.name.clone()) {
                let report = Report::UnitFailed {
                    unit: unit.name,
                    result: unit.result,
                };
                reporter.send(&report).map_err(Trouble::Port)?;
            }
        }
    }
    Ok((state, systemd))
}

fn answer(order: &Order, systemd: &mut Systemd) -> Report {
    let Order::Check {
        id,
        check: Check::UnitActive { unit },
    } = order
    else {
        return refusal(order);
    };
    let (holds, found) = match systemd.unit_state(unit) {
        Ok((active, sub)) => (active == "active", format!("{active} ({sub})")),
        Err(error) => (false, error.to_string()),
    };
    Report::Check {
        id: Some(*id),
        holds,
        found,
    }
}

/// An order that this probe cannot fulfil must not pass for fulfilled.
fn refusal(order: &Order) -> Report {
    let id = match order {
        Order::Check { id, .. } | Order::Mark { id, .. } => Some(*id),
        _ => None,
    };
    let word = order.to_line().word;
    Report::Check {
        id,
        holds: false,
        found: format!("the probe does not know the order `{word}`"),
    }
}

/// systemd's clean way; failing that, an unclean one: the host waits for the end of the machine.
fn power_off() {
    for _ in 0..SHUTDOWN_ATTEMPTS {
        if Systemd::connect()
            .and_then(|mut systemd| systemd.power_off())
            .is_ok()
        {
            return;
        }
        std::thread::sleep(POLL);
    }
    nix::unistd::sync();
    reboot(RebootMode::RB_POWER_OFF).err();
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

fn uptime_ms() -> u64 {
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

/// Writes reports, whole lines only, from several threads.
#[derive(Clone)]
struct Reporter {
    port: Arc<Mutex<File>>,
    nonce: String,
}

impl Reporter {
    fn send(&self, report: &Report) -> io::Result<()> {
        let line = format!("{}\n", report.to_line(&self.nonce));
        locked(&self.port).write_all(line.as_bytes())
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A thread of its own for the signs of life: systemd may take long to answer.
struct Heartbeat(Arc<Mutex<Option<(String, u64)>>>);

impl Heartbeat {
    fn start(reporter: &Reporter) -> Self {
        let known = Arc::new(Mutex::new(Some(("starting".to_owned(), 0))));
        let (reporter, shared) = (reporter.clone(), Arc::clone(&known));
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(HEARTBEAT);
                // Held while writing, so that nothing follows once `stop` has returned.
                let known = locked(&shared);
                let Some((state, jobs)) = known.clone() else {
                    return;
                };
                if reporter
                    .send(&Report::Waiting {
                        state,
                        jobs,
                        job: String::new(),
                        uptime_ms: uptime_ms(),
                    })
                    .is_err()
                {
                    return;
                }
            }
        });
        Self(known)
    }

    fn note(&self, state: &str, jobs: u32) {
        *locked(&self.0) = Some((state.to_owned(), jobs.into()));
    }

    fn stop(self) {
        *locked(&self.0) = None;
    }
}

/// Reads orders from the port.
struct Orders<R> {
    port: R,
    buffer: Vec<u8>,
}

impl<R: io::Read> Orders<R> {
    /// The nonce, and the orders up to [`Order::End`]. Whatever stands before [`Order::Begin`] is
    /// the rest of another run.
    fn opening(&mut self) -> io::Result<(String, Vec<Order>)> {
        let nonce = loop {
            if let Order::Begin { nonce } = self.next()? {
                break nonce;
            }
        };
        let mut orders = Vec::new();
        while orders.len() < ORDER_LIMIT {
            match self.next()? {
                Order::End => return Ok((nonce, orders)),
                order => orders.push(order),
            }
        }
        Err(io::Error::other("too many orders"))
    }

    /// The next order; lines that are none are skipped.
    fn next(&mut self) -> io::Result<Order> {
        loop {
            while let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                if let Some(line) = Line::parse(&String::from_utf8_lossy(&line)) {
                    return Ok(Order::from_line(line));
                }
            }
            if self.buffer.len() > LINE_LIMIT {
                return Err(io::Error::other("too long a line"));
            }
            let mut bytes = [0; 512];
            match self.port.read(&mut bytes)? {
                // The host's side is not open: virtio_console then gives nothing, at once.
                0 => std::thread::sleep(RETRY),
                count => self.buffer.extend_from_slice(&bytes[..count]),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders(text: &str) -> Orders<io::Cursor<Vec<u8>>> {
        Orders {
            port: io::Cursor::new(text.as_bytes().to_vec()),
            buffer: Vec::new(),
        }
    }

    #[test]
    fn orders_are_read_from_begin_to_end() {
        let mut orders = orders(
            "junk\nbaker1 power-off\nbaker1 begin nonce=ab\nbaker1 unit-active unit=a%20b id=0\n\
             \nbaker1 future\nbaker1 end\nbaker1 power-off\n",
        );
        let (nonce, read) = orders.opening().unwrap();
        assert_eq!(nonce, "ab");
        let check = Check::UnitActive { unit: "a b".into() };
        assert_eq!(read[0], Order::Check { id: 0, check });
        assert!(matches!(
            refusal(&read[1]),
            Report::Check { holds: false, .. }
        ));
        assert_eq!(read.len(), 2);
        assert_eq!(orders.next().unwrap(), Order::PowerOff);
    }

    #[test]
    fn endless_lines_and_lists_are_refused() {
        assert!(orders(&"x".repeat(5000)).next().is_err());
        let many = "baker1 x\n".repeat(ORDER_LIMIT + 1);
        assert!(
            orders(&format!("baker1 begin nonce=a\n{many}"))
                .opening()
                .is_err()
        );
    }

    #[test]
    fn kernel_texts_are_understood() {
        assert_eq!(parse_uptime("12.34 20.00"), Some(12_340));
        assert_eq!(parse_uptime(""), None);
        assert_eq!(
            memory_kib("MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:   400 kB\n"),
            600
        );
        assert_eq!(memory_kib(""), 0);
        assert!(says_ready(b"STATUS=x\nREADY=1"));
        assert!(!says_ready(b"STATUS=READY=1\nREADY=0"));
    }
}
