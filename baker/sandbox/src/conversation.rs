//! Listening to the program inside.

use std::io::{self, BufReader, Read};
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use baker_contract::sandbox::Frame;
use baker_model::Interrupt;

use crate::SandboxError;

/// Bytes read of the sandbox at a time.
const BUFFER: usize = 1 << 20;

/// How often somebody looks whether to stop.
const GLANCE: Duration = Duration::from_millis(50);

/// Is told what happens inside, in order.
pub trait Hear {
    /// Step number such begins.
    fn started(&mut self, step: u32);
    /// The step wrote this.
    fn output(&mut self, bytes: &[u8]);
    /// The step ended with this code.
    fn ended(&mut self, code: i32);
    /// The next bytes of the archive of the tree.
    ///
    /// # Errors
    /// They cannot be taken; the sandbox is ended.
    fn tree(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// Hears frames until the last one. The child is killed when somebody asks to stop.
pub(crate) fn listen(
    from: impl Read,
    child: &mut Child,
    hear: &mut dyn Hear,
    interrupt: &Interrupt,
) -> Result<(), SandboxError> {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                if interrupt.is_raised() {
                    // It may have ended by itself in this moment.
                    child.kill().ok();
                    return;
                }
                std::thread::sleep(GLANCE);
            }
        });
        let heard = frames(BufReader::with_capacity(BUFFER, from), hear);
        over.store(true, Ordering::Relaxed);
        match heard {
            Err(SandboxError::Died { .. }) if interrupt.is_raised() => {
                Err(SandboxError::Interrupted)
            }
            other => other,
        }
    })
}

fn frames(mut from: impl Read, hear: &mut dyn Hear) -> Result<(), SandboxError> {
    loop {
        let frame = Frame::read(&mut from).map_err(|source| SandboxError::Died {
            console: String::new(),
            source,
        })?;
        match frame {
            Frame::Ready => {}
            Frame::Started(step) => hear.started(step),
            Frame::Output(bytes) => hear.output(&bytes),
            Frame::Ended(code) => hear.ended(code),
            Frame::Tree(bytes) => hear.tree(&bytes).map_err(SandboxError::Taker)?,
            Frame::Done => return Ok(()),
            Frame::Failed(why) => return Err(SandboxError::Broken { why }),
        }
    }
}
