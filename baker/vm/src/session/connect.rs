//! The beginning of a run: QEMU connects to its lines, and the CPUs start.

use std::io;
use std::sync::Arc;

use baker_contract::Order;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixListener;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::mpsc;
use tokio::time::{Instant, interval};

use super::{DRAIN, Input, Session, SessionError, TICK};
use crate::judge::Observation;
use crate::lines::pump;
use crate::machine::{ProbeOffer, Sockets};
use crate::qmp::{MachineEvent, Qmp};

/// The host's ends of QEMU's lines.
pub(super) struct Listeners {
    qmp: UnixListener,
    serial: UnixListener,
    probe: Option<UnixListener>,
}

impl Listeners {
    pub(super) fn bind(sockets: &Sockets, probe: &ProbeOffer) -> io::Result<Self> {
        let probe = match probe {
            ProbeOffer::None => None,
            ProbeOffer::Port | ProbeOffer::Disk(_) => Some(UnixListener::bind(&sockets.probe)?),
        };
        Ok(Self {
            qmp: UnixListener::bind(&sockets.qmp)?,
            serial: UnixListener::bind(&sockets.serial)?,
            probe,
        })
    }

    async fn accept(
        self,
        sender: mpsc::Sender<Input>,
        events: mpsc::UnboundedSender<Option<MachineEvent>>,
    ) -> io::Result<(Qmp, Option<OwnedWriteHalf>)> {
        let (serial, _) = self.serial.accept().await?;
        tokio::spawn(pump(serial, sender.clone(), Input::Console));
        let mut port = None;
        if let Some(listener) = self.probe {
            let (probe, _) = listener.accept().await?;
            let (read, write) = probe.into_split();
            tokio::spawn(pump(read, sender, Input::Port));
            port = Some(write);
        }
        let (control, _) = self.qmp.accept().await?;
        Ok((Qmp::negotiate(control, events).await?, port))
    }
}

impl Session<'_> {
    /// Waits for QEMU to connect, negotiates and lets the CPUs run; false when that failed and the
    /// judge has been told.
    pub(super) async fn connect(
        &mut self,
        listeners: Listeners,
        events: mpsc::UnboundedSender<Option<MachineEvent>>,
    ) -> Result<bool, SessionError> {
        let sender = self.sender.clone();
        let connected = async {
            let (qmp, port) = listeners.accept(sender, events).await?;
            qmp.cont().await?;
            io::Result::Ok((Arc::new(qmp), port))
        };
        tokio::pin!(connected);
        let mut tick = interval(TICK);
        let lost = loop {
            tokio::select! {
                biased;
                result = &mut connected => match result {
                    Ok((qmp, port)) => {
                        self.qmp = Some(qmp);
                        self.port = port;
                        self.open_lines = 2;
                        return Ok(true);
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
                    if self.start.elapsed() >= self.setting.timing.connect {
                        let seconds = self.setting.timing.connect.as_secs();
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
        self.tell(Observation::Exited(how));
        Ok(false)
    }

    /// Asks the probe to power off.
    pub(super) async fn ask_power_off(&mut self) -> io::Result<()> {
        let order = format!("{}\n", Order::PowerOff.to_line());
        match &mut self.port {
            Some(port) => port.write_all(order.as_bytes()).await,
            None => Ok(()),
        }
    }
}
