//! `baker completions`

use clap_complete::Shell;

use crate::app;
use crate::context::Context;
use crate::exit::{Exit, Failure};

/// Prints a script that lets a shell complete baker's commands and options.
///
/// bash: put it into ~/.local/share/bash-completion/completions/baker. zsh: into
/// a folder of $fpath, as _baker. fish: into ~/.config/fish/completions/baker.fish.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    shell: Shell,
}

/// Runs it.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut app::command_line(), "baker", &mut script);
    let script = String::from_utf8(script).map_err(|error| Failure::new(Exit::Internal, error))?;
    let value = serde_json::json!({ "shell": args.shell.to_string(), "script": script });
    context.answer(script.trim_end(), &value)
}
