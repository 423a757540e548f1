//! The end of a run: a clean power-off after a pass, else none.

use std::io;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::time::{Instant, interval};

use super::{Input, Session, SessionError, TICK};
use crate::evidence::{Shutdown, milliseconds};
use crate::judge::kernel_problem;
use crate::lines::{Piece, plain_text};
use crate::machine::Display;

/// A picture of the screen is waited for no longer than this.
const PICTURE: Duration = Duration::from_secs(2);

impl Session<'_> {
    /// After a pass the guest is asked to power off; after a failure, or when it does not, it is
    /// killed. A guest that hangs while it powers off has passed all the same: the promise of a
    /// pass is that the image boots and serves, so this becomes a warning in the evidence.
    pub(super) async fn end(&mut self) -> Result<(Shutdown, Vec<String>), SessionError> {
        let mut warnings = Vec::new();
        let mut shutdown = Shutdown::Killed;
        if self.setting.machine.display == Display::Hidden && self.exited.is_none() {
            self.picture(&mut warnings).await;
        }
        // A guest without a probe has nobody who could be asked.
        if self.passed() && self.exited.is_none() && self.port.is_some() {
            shutdown = self.power_off(&mut warnings).await?;
        }
        if self.exited.is_none() {
            self.kill().await?;
        }
        Ok((shutdown, warnings))
    }

    /// Takes a picture of the screen. None is taken of a machine that has ended.
    async fn picture(&mut self, warnings: &mut Vec<String>) {
        let Some(qmp) = self.qmp.clone() else { return };
        let file = &self.setting.screenshot;
        match tokio::time::timeout(PICTURE, qmp.picture(file)).await {
            Ok(Ok(())) => self.pictured = true,
            // A machine that is about to end closes its lines first.
            _ if self.child.try_wait().is_ok_and(|ended| ended.is_some()) => {}
            Ok(Err(error)) => warnings.push(format!("no picture of the screen: {error}")),
            Err(_) => warnings.push("no picture of the screen: QEMU does not answer".to_owned()),
        }
    }

    async fn power_off(&mut self, warnings: &mut Vec<String>) -> Result<Shutdown, SessionError> {
        let asked = Instant::now();
        if let Err(error) = self.ask_power_off().await {
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
                    if let Input::Console(Piece::Line(line)) = input
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
                    if asked.elapsed() >= self.setting.timing.power_off {
                        let seconds = self.setting.timing.power_off.as_secs();
                        warnings.push(format!("the guest did not power off within {seconds} s"));
                        return Ok(Shutdown::Hung);
                    }
                }
            }
        }
    }

    pub(super) async fn kill(&mut self) -> io::Result<()> {
        if let Some(id) = self.child.id().and_then(|id| i32::try_from(id).ok()) {
            // The group is gone when QEMU ended just now; then there is nothing to kill.
            killpg(Pid::from_raw(id), Signal::SIGKILL).ok();
        }
        self.exited = Some((self.child.wait().await?, Instant::now()));
        Ok(())
    }
}
