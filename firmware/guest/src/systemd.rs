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
    /// Units that have failed.
    pub failed: Vec<FailedUnit>,
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
    /// `enabled`, `disabled`, `static` ...; empty for units without a file.
    pub file: String,
    /// The conditions that did not hold when it was last to start, as in its file.
    pub unmet: Vec<String>,
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
    sub_state: String,
    path: String,
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

    /// How far the boot is, and what has failed.
    ///
    /// # Errors
    /// systemd does not answer, or not as documented.
    pub fn state(&mut self) -> io::Result<State> {
        let (state, jobs) = ([MANAGER, "SystemState"], [MANAGER, "NJobs"]);
        let calls = [
            (
                self.manager("ListUnitsFiltered"),
                Arguments::List(&["failed"]),
            ),
            (self.properties(MANAGER_PATH), Arguments::Texts(&state)),
            (self.properties(MANAGER_PATH), Arguments::Texts(&jobs)),
        ];
        let mut replies = self.connection.call_all(&calls)?.into_iter();
        let mut next = || replies.next().unwrap_or_else(|| Err(malformed()));
        let (failed, system, jobs) = (next()?, next()?, next()?);
        Ok(State {
            system: variant(&system, b"s", Reader::text)?.to_owned(),
            jobs: variant(&jobs, b"u", Reader::u32)?,
            failed: Reader::new(&failed)
                .array(8, failed_unit)
                .ok_or_else(malformed)?,
        })
    }

    /// Why each of these units failed: its `Result`, or its sub-state where units of its type
    /// have none.
    ///
    /// # Errors
    /// As [`Systemd::state`].
    pub fn results(&mut self, units: &[FailedUnit]) -> io::Result<Vec<String>> {
        let interfaces: Vec<_> = units.iter().map(|unit| interface_of(&unit.name)).collect();
        let words: Vec<_> = interfaces
            .iter()
            .map(|interface| [interface.as_deref().unwrap_or(UNIT), "Result"])
            .collect();
        let calls: Vec<_> = units
            .iter()
            .zip(&words)
            .map(|(unit, words)| (self.properties(&unit.path), Arguments::Texts(words)))
            .collect();
        let replies = self.connection.call_all(&calls)?;
        let result = |(unit, reply): (&FailedUnit, io::Result<Vec<u8>>)| {
            let result =
                reply.and_then(|body| variant(&body, b"s", Reader::text).map(str::to_owned));
            result.unwrap_or_else(|_| unit.sub_state.clone())
        };
        Ok(units.iter().zip(replies).map(result).collect())
    }

    /// How a unit is; systemd loads it for that when it has not yet.
    ///
    /// # Errors
    /// The name is none, or as [`Systemd::state`].
    pub fn unit(&mut self, unit: &str) -> io::Result<UnitState> {
        let path = self.load(unit)?;
        let mut text = |name| {
            let body = self.property(&path, name)?;
            variant(&body, b"s", Reader::text).map(str::to_owned)
        };
        let [load, active, sub] = ["LoadState", "ActiveState", "SubState"].map(&mut text);
        let (load, active, sub) = (load?, active?, sub?);
        // Units without a file have none of these.
        let file = text("UnitFileState").unwrap_or_default();
        let unmet = self.property(&path, "Conditions").and_then(|body| {
            let conditions = |reader: &mut Reader<'_>| reader.array(8, condition);
            variant(&body, b"a(sbbsi)", conditions)
        });
        Ok(UnitState {
            load,
            active,
            sub,
            file,
            unmet: unmet.unwrap_or_default().into_iter().flatten().collect(),
        })
    }

    /// When the unit last became active, in microseconds since the kernel started; none when it
    /// never did.
    ///
    /// # Errors
    /// As [`Systemd::unit`].
    pub fn active_since(&mut self, unit: &str) -> io::Result<Option<u64>> {
        let path = self.load(unit)?;
        let body = self.property(&path, "ActiveEnterTimestampMonotonic")?;
        let time = variant(&body, b"t", Reader::u64)?;
        Ok((time > 0).then_some(time))
    }

    /// What is being done.
    ///
    /// # Errors
    /// As [`Systemd::state`].
    pub fn jobs(&mut self) -> io::Result<Vec<Job>> {
        let body = self.call_manager("ListJobs", &[])?;
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
        self.call_manager(member, &[]).map(drop)
    }

    fn load(&mut self, unit: &str) -> io::Result<String> {
        let body = self.call_manager("LoadUnit", &[unit])?;
        let path = Reader::new(&body).text().ok_or_else(malformed)?;
        Ok(path.to_owned())
    }

    fn property(&mut self, path: &str, name: &str) -> io::Result<Vec<u8>> {
        let method = self.properties(path);
        self.connection
            .call(method, Arguments::Texts(&[UNIT, name]))
    }

    fn call_manager(&mut self, member: &str, arguments: &[&str]) -> io::Result<Vec<u8>> {
        let method = self.manager(member);
        self.connection.call(method, Arguments::Texts(arguments))
    }

    fn manager<'a>(&self, member: &'a str) -> Method<'a> {
        Method {
            destination: self.destination,
            path: MANAGER_PATH,
            interface: MANAGER,
            member,
        }
    }

    fn properties<'a>(&self, path: &'a str) -> Method<'a> {
        Method {
            destination: self.destination,
            path,
            interface: PROPERTIES,
            member: "Get",
        }
    }
}

/// The value of a property, if it is of this type.
fn variant<'a, T>(
    body: &'a [u8],
    kind: &[u8],
    value: impl FnOnce(&mut Reader<'a>) -> Option<T>,
) -> io::Result<T> {
    let mut reader = Reader::new(body);
    let found = reader.signature().filter(|found| *found == kind);
    found.and_then(|_| value(&mut reader)).ok_or_else(malformed)
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "malformed answer of systemd")
}

/// One `(ssssssouso)` of `ListUnits`.
fn failed_unit(reader: &mut Reader<'_>) -> Option<FailedUnit> {
    let name = reader.text()?.to_owned();
    let [_description, _load, _active] = [reader.text()?, reader.text()?, reader.text()?];
    let sub_state = reader.text()?.to_owned();
    reader.text()?;
    let path = reader.text()?.to_owned();
    reader.u32()?;
    reader.text()?;
    reader.text()?;
    Some(FailedUnit {
        name,
        sub_state,
        path,
    })
}

/// One `(sbbsi)` of `Conditions`: as it stands in the unit's file when it was not met.
fn condition(reader: &mut Reader<'_>) -> Option<Option<String>> {
    let kind = reader.text()?.to_owned();
    let [_any_of, negated] = [reader.u32()?, reader.u32()?];
    let value = reader.text()?.to_owned();
    // Above zero it holds, at zero it was not looked at.
    let unmet = reader.u32()?.cast_signed() < 0;
    let not = if negated == 0 { "" } else { "!" };
    Some(unmet.then(|| format!("{kind}={not}{value}")))
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
                failed: Vec::new(),
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
