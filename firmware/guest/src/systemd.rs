//! Questions to systemd.

use std::io;
use std::path::Path;

use crate::dbus::{Arguments, Connection, Method, Reader};

/// systemd's own socket: there from its first moment, needs no bus.
const PRIVATE: &str = "/run/systemd/private";

/// The system bus, for systemd versions without the private socket.
const SYSTEM_BUS: &str = "/run/dbus/system_bus_socket";

const SERVICE: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const UNIT: &str = "org.freedesktop.systemd1.Unit";

/// What systemd says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// `initializing`, `starting`, `running`, `degraded` ...
    pub system: String,
    /// Jobs still queued.
    pub jobs: u32,
    /// Number of failed units.
    pub failed: u32,
}

impl State {
    /// True when the boot is over, whether well or badly.
    pub fn settled(&self) -> bool {
        self.jobs == 0 && !matches!(self.system.as_str(), "initializing" | "starting")
    }
}

/// Whether and how a unit is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitState {
    /// `loaded`, `not-found`, `masked` ...
    pub load: String,
    /// `active`, `inactive`, `failed` ...
    pub active: String,
    /// What `active` means for a unit of its type: `running`, `listening` ...
    pub sub: String,
}

/// Something that systemd does or is going to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its number; later jobs have higher ones.
    pub id: u32,
    /// `UNIT/TYPE`, as in `dbus.service/start`.
    pub name: String,
    /// True when it does not merely wait for others.
    pub running: bool,
}

/// How the machine ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It is switched off.
    PowerOff,
    /// It starts again.
    Restart,
}

/// A unit that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedUnit {
    /// Full unit name.
    pub name: String,
    /// Its `Result`, or its sub-state where units of its type have none.
    pub result: String,
}

/// A connection to systemd. Keep it short: systemd sends every direct connection all its
/// signals, and marshalling those slows the boot that is being watched.
pub struct Systemd {
    connection: Connection,
    destination: Option<&'static str>,
}

impl Systemd {
    /// Connects to the private socket, else to the system bus.
    ///
    /// # Errors
    /// Neither answers.
    pub fn connect() -> io::Result<Self> {
        let private = Connection::open(Path::new(PRIVATE));
        if let Ok(connection) = private {
            return Ok(Self {
                connection,
                destination: None,
            });
        }
        let mut connection = Connection::open(Path::new(SYSTEM_BUS))?;
        let hello = Method {
            destination: Some("org.freedesktop.DBus"),
            path: "/org/freedesktop/DBus",
            interface: "org.freedesktop.DBus",
            member: "Hello",
        };
        connection.call(hello, Arguments::Texts(&[]))?;
        Ok(Self {
            connection,
            destination: Some(SERVICE),
        })
    }

    /// How far the boot is.
    ///
    /// # Errors
    /// systemd does not answer, or not as documented.
    pub fn state(&mut self) -> io::Result<State> {
        Ok(State {
            system: self.text(MANAGER_PATH, MANAGER, "SystemState")?,
            jobs: self.number("NJobs")?,
            failed: self.number("NFailedUnits")?,
        })
    }

    /// All failed units.
    ///
    /// # Errors
    /// As [`Systemd::state`].
    pub fn failed_units(&mut self) -> io::Result<Vec<FailedUnit>> {
        let body = self.manager("ListUnitsFiltered", Arguments::List(&["failed"]))?;
        let units = Reader::new(&body)
            .array(8, unit_entry)
            .ok_or_else(malformed)?;
        Ok(units
            .into_iter()
            .map(|entry| self.failed_unit(entry))
            .collect())
    }

    fn failed_unit(&mut self, entry: UnitEntry) -> FailedUnit {
        let result = interface_of(&entry.name)
            .and_then(|interface| self.text(&entry.path, &interface, "Result").ok())
            .unwrap_or(entry.sub_state);
        FailedUnit {
            name: entry.name,
            result,
        }
    }

    /// How a unit is; systemd loads it for that when it has not yet.
    ///
    /// # Errors
    /// The name is none, or as [`Systemd::state`].
    pub fn unit(&mut self, unit: &str) -> io::Result<UnitState> {
        let path = self.load(unit)?;
        Ok(UnitState {
            load: self.text(&path, UNIT, "LoadState")?,
            active: self.text(&path, UNIT, "ActiveState")?,
            sub: self.text(&path, UNIT, "SubState")?,
        })
    }

    /// When the unit last became active, in microseconds since the kernel started; none when it
    /// never did.
    ///
    /// # Errors
    /// As [`Systemd::unit`].
    pub fn active_since(&mut self, unit: &str) -> io::Result<Option<u64>> {
        let path = self.load(unit)?;
        let body = self.property(&path, UNIT, "ActiveEnterTimestampMonotonic")?;
        let mut reader = Reader::new(&body);
        let time = reader
            .signature()
            .filter(|kind| *kind == b"t")
            .and_then(|_| reader.u64())
            .ok_or_else(malformed)?;
        Ok((time > 0).then_some(time))
    }

    /// What is being done.
    ///
    /// # Errors
    /// As [`Systemd::state`].
    pub fn jobs(&mut self) -> io::Result<Vec<Job>> {
        let body = self.manager("ListJobs", Arguments::Texts(&[]))?;
        Reader::new(&body).array(8, job_entry).ok_or_else(malformed)
    }

    /// Asks for a clean end.
    ///
    /// # Errors
    /// systemd refuses or does not answer.
    pub fn end(&mut self, ending: Ending) -> io::Result<()> {
        let member = match ending {
            Ending::PowerOff => "PowerOff",
            Ending::Restart => "Reboot",
        };
        self.manager(member, Arguments::Texts(&[])).map(drop)
    }

    fn load(&mut self, unit: &str) -> io::Result<String> {
        let body = self.manager("LoadUnit", Arguments::Texts(&[unit]))?;
        let path = Reader::new(&body).text().ok_or_else(malformed)?;
        Ok(path.to_owned())
    }

    fn manager(&mut self, member: &str, arguments: Arguments<'_>) -> io::Result<Vec<u8>> {
        let destination = self.destination;
        let method = Method {
            destination,
            path: MANAGER_PATH,
            interface: MANAGER,
            member,
        };
        self.connection.call(method, arguments)
    }

    fn text(&mut self, path: &str, interface: &str, name: &str) -> io::Result<String> {
        let body = self.property(path, interface, name)?;
        let mut reader = Reader::new(&body);
        let text = reader
            .signature()
            .filter(|kind| *kind == b"s")
            .and_then(|_| reader.text());
        text.map(str::to_owned).ok_or_else(malformed)
    }

    fn number(&mut self, name: &str) -> io::Result<u32> {
        let body = self.property(MANAGER_PATH, MANAGER, name)?;
        let mut reader = Reader::new(&body);
        let number = reader
            .signature()
            .filter(|kind| *kind == b"u")
            .and_then(|_| reader.u32());
        number.ok_or_else(malformed)
    }

    fn property(&mut self, path: &str, interface: &str, name: &str) -> io::Result<Vec<u8>> {
        let destination = self.destination;
        let method = Method {
            destination,
            path,
            interface: PROPERTIES,
            member: "Get",
        };
        self.connection
            .call(method, Arguments::Texts(&[interface, name]))
    }
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "malformed answer of systemd")
}

struct UnitEntry {
    name: String,
    sub_state: String,
    path: String,
}

/// One `(ssssssouso)` of `ListUnits`.
fn unit_entry(reader: &mut Reader<'_>) -> Option<UnitEntry> {
    let name = reader.text()?.to_owned();
    let [_description, _load, _active] = [reader.text()?, reader.text()?, reader.text()?];
    let sub_state = reader.text()?.to_owned();
    reader.text()?;
    let path = reader.text()?.to_owned();
    reader.u32()?;
    reader.text()?;
    reader.text()?;
    Some(UnitEntry {
        name,
        sub_state,
        path,
    })
}

/// One `(usssoo)` of `ListJobs`.
fn job_entry(reader: &mut Reader<'_>) -> Option<Job> {
    let id = reader.u32()?;
    let [unit, kind, state] = [reader.text()?, reader.text()?, reader.text()?];
    let job = Job {
        id,
        name: format!("{unit}/{kind}"),
        running: state == "running",
    };
    reader.text()?;
    reader.text()?;
    Some(job)
}

/// The interface that has the `Result` of a unit, by the unit's type.
fn interface_of(unit: &str) -> Option<String> {
    let kind = match unit.rsplit_once('.')?.1 {
        "service" => "Service",
        "socket" => "Socket",
        "mount" => "Mount",
        "automount" => "Automount",
        "swap" => "Swap",
        "timer" => "Timer",
        "path" => "Path",
        "scope" => "Scope",
        _ => return None,
    };
    Some(format!("org.freedesktop.systemd1.{kind}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settled_means_finished_and_idle() {
        let rows = [
            ("initializing", 0, false),
            ("starting", 0, false),
            ("running", 1, false),
            ("running", 0, true),
            ("degraded", 0, true),
            ("maintenance", 0, true),
        ];
        for (system, jobs, settled) in rows {
            let state = State {
                system: system.into(),
                jobs,
                failed: 0,
            };
            assert_eq!(state.settled(), settled, "{system} {jobs}");
        }
    }

    #[test]
    fn results_are_asked_of_the_units_own_interface() {
        let service = Some("org.freedesktop.systemd1.Service".to_owned());
        assert_eq!(interface_of("a.b.service"), service);
        assert_eq!(interface_of("x.device"), None);
        assert_eq!(interface_of("nothing"), None);
    }
}
