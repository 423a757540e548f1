//! The end of a run: a clean power-off after a pass, else none.

use std::io;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::time::{Instant, interval};

use super::{Input, Session, SessionError, TICK};
use crate::evidence::{Shutdown, milliseconds};
use crate::judge::kernel_problem;
use crate::lines::{Piece, plain_text};

impl Session<'_> {
    /// After a pass the guest is asked to power off; after a failure, or when it does not, it is
    /// killed. A guest that hangs while it powers off has passed all the same: the promise of a
    /// pass is that the image boots and serves, so this becomes a warning in the evidence.
    pub(super) async fn end(&mut self) -> Result<(Shutdown, Vec<String>), SessionError> {
        let mut warnings = Vec::new();
        let mut shutdown = Shutdown::Killed;
        if self.passed() && self.exited.is_none() {
            shutdown = self.power_off(&mut warnings).await?;
        }
        if self.exited.is_none() {
            self.kill().await?;
        }
        Ok((shutdown, warnings))
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
