//! `baker run`

use std::path::PathBuf;

use baker_model::plan::Firmware;

use crate::context::Context;
use crate::exit::Failure;
use crate::pipeline;

/// Boots a draft or release for a person, with the console on this terminal
/// (Ctrl-A X ends it). The disk is not changed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of a draft or release
    release: PathBuf,
    /// Let QEMU load kernel and initrd itself instead of booting by UEFI
    #[arg(long)]
    direct: bool,
    /// Memory in MiB
    #[arg(long, default_value_t = 1024, value_name = "MIB")]
    memory: u32,
}

/// Runs it.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let firmware = if args.direct {
        Firmware::Direct
    } else {
        Firmware::Uefi
    };
    pipeline::run(&args.release, firmware, args.memory, context)
}
