//! From the command line to an exit code.

use std::process::ExitCode;
use std::sync::Arc;

use baker_model::Interrupt;
use clap::{CommandFactory, Parser, Subcommand};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::commands;
use crate::config::{Config, Global};
use crate::context::Context;
use crate::exit::{Exit, Failure};

/// Bakes verified operating system images, proves that they boot, and signs them.
///
/// Exit codes: 0 done, 1 a fault of baker or the system, 2 wrong command line,
/// 3 wrong recipe, 4 lock or fetch failed, 5 build failed, 6 the image failed
/// its test, 7 verification failed, 8 publishing failed, 9 something is missing
/// on this machine (QEMU, firmware), 10 a drill found damage that nobody notices,
/// 11 the image holds what it must not, 12 `diff --exit-code` found differences,
/// 130 interrupted.
#[derive(Debug, Parser)]
#[command(name = "baker", version, max_term_width = 80)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    global: Global,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a recipe of your own, made from one that works
    New(commands::new::Args),
    /// Make keys: for signing releases, for Secure Boot
    #[command(subcommand)]
    Key(commands::key::Command),
    /// Pin every input of a recipe: resolve, verify, write recipe.lock
    Lock(commands::lock::Args),
    /// Bring everything that the lock names into the store
    Fetch(commands::fetch::Args),
    /// Build the disk from the lock; needs no network
    Bake(commands::bake::Args),
    /// Boot a bake or release in QEMU and judge it
    Test(commands::test::Args),
    /// Boot a bake or release and tell what it reads of its disk
    Reads(commands::reads::Args),
    /// Boot a bake or release for a person, console attached
    Run(commands::run::Args),
    /// Open a shell in the tree as packages' scripts leave it
    Shell(commands::shell::Args),
    /// Check the lock, fetch, bake, test, sign and publish: the main job
    Release(commands::release::Args),
    /// Sign a tested draft or countersign a release, here or elsewhere
    Sign(commands::sign::Args),
    /// Check everything that a release says of itself, offline
    Verify(commands::verify::Args),
    /// Put a release and all that it was made of into one file
    Bundle(commands::bundle::Args),
    /// Compare releases, recipes or disk images
    Diff(commands::diff::Args),
    /// Look into a release or any disk image without mounting it
    Inspect(commands::inspect::Args),
    /// Put a release into a folder, registry or bucket
    Publish(commands::publish::Args),
    /// Bring a release out of one, verified on the way in
    Pull(commands::pull::Args),
    /// Point a channel to a release that shows what its recipe asks for
    Promote(commands::promote::Args),
    /// Show where channels point and pointed
    #[command(subcommand)]
    Channel(commands::channel::Command),
    /// Say that a release must not be used any more
    Withdraw(commands::withdraw::Args),
    /// Show what the store holds, and remove what nobody needs any more
    #[command(subcommand)]
    Store(commands::store::Command),
    /// Damage a release bit by bit and show who notices
    Drill(commands::drill::Args),
    /// Print the JSON Schema of recipes, for editors
    Schema(commands::schema::Args),
    /// Print a script that lets a shell complete commands
    Completions(commands::completions::Args),
    /// Write the manual pages
    Man(commands::man::Args),
}

/// The command line, for what is made from it: completions, manual pages.
pub fn command_line() -> clap::Command {
    Arguments::command()
}

/// A bake has what it takes over of every package open; the usual limit of 1024 files is for programs
/// that wait by `select`. Where it cannot be raised, it is what it was.
fn allow_many_files() -> Option<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).ok()
}

/// Runs the program.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        // Help and version are answers, all else is a wrong command line; clap knows both codes.
        Err(error) => error.exit(),
    };
    allow_many_files();
    let interrupt = Arc::new(Interrupt::new());
    let context = match Config::settle(&arguments.global) {
        Ok(config) => Context::new(config, &arguments.global, Arc::clone(&interrupt)),
        Err(failure) => return crate::ui::report_without_context(&failure),
    };
    let result = watch_signals(interrupt)
        .map_err(|error| Failure::new(Exit::Internal, error).context("cannot listen to signals"))
        .and_then(|()| dispatch(arguments.command, &context));
    context.finish(result)
}

fn dispatch(command: Command, context: &Context) -> Result<(), Failure> {
    match command {
        Command::New(args) => commands::new::run(&args, context),
        Command::Key(command) => commands::key::run(&command, context),
        Command::Lock(args) => commands::lock::run(&args, context),
        Command::Fetch(args) => commands::fetch::run(&args, context),
        Command::Bake(args) => commands::bake::run(&args, context),
        Command::Test(args) => commands::test::run(&args, context),
        Command::Reads(args) => commands::reads::run(&args, context),
        Command::Run(args) => commands::run::run(&args, context),
        Command::Shell(args) => commands::shell::run(&args, context),
        Command::Release(args) => commands::release::run(&args, context),
        Command::Sign(args) => commands::sign::run(&args, context),
        Command::Verify(args) => commands::verify::run(&args, context),
        Command::Bundle(args) => commands::bundle::run(&args, context),
        Command::Diff(args) => commands::diff::run(&args, context),
        Command::Inspect(args) => commands::inspect::run(&args, context),
        Command::Publish(args) => commands::publish::run(&args, context),
        Command::Pull(args) => commands::pull::run(&args, context),
        Command::Promote(args) => commands::promote::run(&args, context),
        Command::Channel(command) => commands::channel::run(&command, context),
        Command::Withdraw(args) => commands::withdraw::run(&args, context),
        Command::Store(command) => commands::store::run(&command, context),
        Command::Drill(args) => commands::drill::run(&args, context),
        Command::Schema(args) => commands::schema::run(&args, context),
        Command::Completions(args) => commands::completions::run(&args, context),
        Command::Man(args) => commands::man::run(&args, context),
    }
}

/// Raises the interrupt on Ctrl-C and on a request to terminate. The stages look at it, clean up
/// and end with an error; a second signal ends the process at once.
/// When this returns, signals are listened to.
fn watch_signals(interrupt: Arc<Interrupt>) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let entered = runtime.enter();
    let mut int = signal(SignalKind::interrupt())?;
    let mut term = signal(SignalKind::terminate())?;
    drop(entered);
    let watch = async move {
        loop {
            tokio::select! {
                _ = int.recv() => {}
                _ = term.recv() => {}
            }
            if interrupt.is_raised() {
                std::process::exit(Exit::Interrupted.code().into());
            }
            interrupt.raise();
        }
    };
    std::thread::spawn(move || runtime.block_on(watch));
    Ok(())
}
