//! The serial console: standard input and output of the first process.

use std::io::{self, Write as _};

use baker_contract::neighbour::Report;
use nix::sys::termios::{LocalFlags, OutputFlags, SetArg, tcgetattr, tcsetattr};

use crate::{Fault, doing};

/// Stops the echo, which would send orders back, and the change of line ends.
pub fn make_raw() -> Result<(), Fault> {
    let input = io::stdin();
    let mut settings = tcgetattr(&input).map_err(doing("see the console's settings"))?;
    settings
        .local_flags
        .remove(LocalFlags::ECHO | LocalFlags::ISIG);
    settings.output_flags.remove(OutputFlags::OPOST);
    tcsetattr(&input, SetArg::TCSANOW, &settings).map_err(doing("set up the console"))
}

/// Writes a report on a line of its own: the kernel may have left one unfinished.
pub fn say(report: &Report) {
    let text = format!("\n{}\n", report.to_line());
    let mut out = io::stdout().lock();
    // Without a console there is nobody to tell.
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .ok();
}
