//! The control line to QEMU. The crate `qapi` stops here.
//!
//! Its stream of events ends for good at the first event that its schema (QEMU 9.1) does not
//! know. So lines are sorted before it sees them: answers go on to `qapi`, events are taken out
//! here, and an event of a newer QEMU is skipped.

use std::io;
use std::path::Path;
use std::time::Duration;

use qapi::futures::{QapiService, QmpStreamTokio};
use qapi::qmp;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader, DuplexStream};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::mpsc;

/// An answer takes longer than this only when QEMU is stuck.
const ANSWER: Duration = Duration::from_secs(10);

/// Bytes of answers on their way to `qapi`.
const PIPE: usize = 64 * 1024;

/// What QEMU says by itself, as far as a verdict rests on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MachineEvent {
    /// The machine was reset and goes on.
    Reset,
    /// The machine is about to end.
    Shutdown(ShutdownCause),
    /// The guest told its panic device that it is lost.
    Panicked,
    /// The CPUs were stopped.
    Stopped,
}

/// Who ended the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShutdownCause {
    /// The guest powered off.
    Guest,
    /// The guest reset, and resets end this machine.
    GuestReset,
    /// The guest panicked.
    GuestPanic,
    /// A signal or a command from the host, or an error of QEMU.
    Host,
}

/// A negotiated control line.
pub(crate) struct Qmp {
    service: QapiService<QmpStreamTokio<OwnedWriteHalf>>,
}

impl Qmp {
    /// Reads the greeting and negotiates; events go to `sink` from now on, `None` at the end.
    pub(crate) async fn negotiate(
        stream: UnixStream,
        sink: mpsc::UnboundedSender<Option<MachineEvent>>,
    ) -> io::Result<Self> {
        let (read, write) = stream.into_split();
        let (answers, to_qapi) = tokio::io::duplex(PIPE);
        tokio::spawn(sort(read, to_qapi, sink));
        let negotiated = async {
            let greeted = QmpStreamTokio::open_split(answers, write).await?;
            greeted.negotiate().await
        };
        let stream = within(negotiated).await??;
        let (service, _driver) = stream.spawn_tokio();
        Ok(Self { service })
    }

    /// Lets the CPUs run.
    pub(crate) async fn cont(&self) -> io::Result<()> {
        within(self.service.execute(qmp::cont {}))
            .await?
            .map(|_| ())
            .map_err(io::Error::other)
    }

    /// The run state in QEMU's words (`running`, `internal-error` ...).
    pub(crate) async fn status(&self) -> io::Result<String> {
        let status = within(self.service.execute(qmp::query_status {})).await?;
        let status = status.map_err(io::Error::other)?.status;
        Ok(qapi::Enum::name(&status).to_owned())
    }

    /// Writes a picture of the screen to `file`, as PNG.
    ///
    /// # Errors
    /// QEMU is older than 7.1, was built without PNG, or has no display.
    pub(crate) async fn picture(&self, file: &Path) -> io::Result<()> {
        let command = qmp::screendump {
            filename: file.to_string_lossy().into_owned(),
            device: None,
            head: None,
            format: Some(qmp::ImageFormat::png),
        };
        within(self.service.execute(command))
            .await?
            .map(drop)
            .map_err(io::Error::other)
    }

    /// The host port behind which each forwarded guest port lies, as pairs (guest, host).
    pub(crate) async fn forwards(&self) -> io::Result<Vec<(u16, u16)>> {
        let command = qmp::human_monitor_command {
            cpu_index: None,
            command_line: "info usernet".to_owned(),
        };
        let table = within(self.service.execute(command))
            .await?
            .map_err(io::Error::other)?;
        Ok(table.lines().filter_map(parse_forward).collect())
    }
}

async fn within<T>(answer: impl Future<Output = T>) -> io::Result<T> {
    tokio::time::timeout(ANSWER, answer).await.map_err(|_| {
        io::Error::new(
            io::ErrorKind::TimedOut,
            "QEMU does not answer on its control line",
        )
    })
}

/// Takes events out of the lines of `read`, passes all else on.
async fn sort(
    read: impl AsyncRead + Unpin,
    mut to_qapi: DuplexStream,
    sink: mpsc::UnboundedSender<Option<MachineEvent>>,
) {
    let mut lines = BufReader::new(read).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let value: Option<serde_json::Value> = serde_json::from_str(&line).ok();
        if value
            .as_ref()
            .is_some_and(|value| value.get("event").is_some())
        {
            if let Some(event) = value.and_then(parse_event) {
                // Nobody listens any more: answers are still wanted.
                sink.send(Some(event)).ok();
            }
        } else if to_qapi
            .write_all(format!("{line}\n").as_bytes())
            .await
            .is_err()
        {
            break;
        }
    }
    sink.send(None).ok();
}

fn parse_event(value: serde_json::Value) -> Option<MachineEvent> {
    match serde_json::from_value(value).ok()? {
        qmp::Event::RESET { .. } => Some(MachineEvent::Reset),
        qmp::Event::STOP { .. } => Some(MachineEvent::Stopped),
        qmp::Event::GUEST_PANICKED { .. } => Some(MachineEvent::Panicked),
        qmp::Event::SHUTDOWN { data, .. } => Some(MachineEvent::Shutdown(match data.reason {
            qmp::ShutdownCause::guest_shutdown => ShutdownCause::Guest,
            qmp::ShutdownCause::guest_reset | qmp::ShutdownCause::subsystem_reset => {
                ShutdownCause::GuestReset
            }
            qmp::ShutdownCause::guest_panic => ShutdownCause::GuestPanic,
            _ => ShutdownCause::Host,
        })),
        _ => None,
    }
}

/// Reads a row like `TCP[HOST_FORWARD]  14  127.0.0.1 43067  10.0.2.15    80     0     0`.
fn parse_forward(row: &str) -> Option<(u16, u16)> {
    let mut words = row.split_ascii_whitespace();
    if words.next()? != "TCP[HOST_FORWARD]" {
        return None;
    }
    let host = words.nth(2)?.parse().ok()?;
    let guest = words.nth(1)?.parse().ok()?;
    Some((guest, host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwards_are_read_from_the_table() {
        let table = "Hub -1 (net):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  \
            Port RecvQ SendQ\r\n  TCP[HOST_FORWARD]  14       127.0.0.1 43067       10.0.2.15    80 \
            0     0\r\n  TCP[ESTABLISHED]  15  127.0.0.1 1  10.0.2.15    81     0     0\r\n";
        assert_eq!(
            table.lines().filter_map(parse_forward).collect::<Vec<_>>(),
            [(80, 43067)]
        );
    }

    #[test]
    fn known_events_have_a_meaning_and_others_none() {
        let shutdown = |reason| {
            format!(
                r#"{{"timestamp":{{"seconds":1,"microseconds":2}},"event":"SHUTDOWN","data":{{"guest":true,"reason":"{reason}"}}}}"#
            )
        };
        let rows = [
            (
                shutdown("guest-reset"),
                Some(MachineEvent::Shutdown(ShutdownCause::GuestReset)),
            ),
            (
                shutdown("guest-shutdown"),
                Some(MachineEvent::Shutdown(ShutdownCause::Guest)),
            ),
            (
                shutdown("host-signal"),
                Some(MachineEvent::Shutdown(ShutdownCause::Host)),
            ),
            (shutdown("a-new-reason"), None),
            (
                r#"{"event":"NEW","timestamp":{"seconds":1,"microseconds":2}}"#.to_owned(),
                None,
            ),
        ];
        for (text, expected) in rows {
            assert_eq!(
                parse_event(serde_json::from_str(&text).unwrap()),
                expected,
                "{text}"
            );
        }
    }
}
