//! `baker`: from a recipe to a booted, signed release.

mod app;
mod commands;
mod config;
mod context;
mod credentials;
mod exit;
mod guest;
mod pipeline;
mod program;
mod source;
mod ui;
mod workdir;

fn main() -> std::process::ExitCode {
    app::main()
}
