//! What a person can ask about the way in which a result came about.

use std::fs;
use std::path::PathBuf;

use crate::context::Context;
use crate::exit::{Exit, Failure};

/// Why and how long.
#[derive(Debug, clap::Args)]
pub struct Insight {
    /// Say what changed since the last bake of the recipe, and for every stage
    /// whether its result was there before, and why not
    #[arg(long)]
    explain: bool,
    /// Draw which stage ran when, on which thread, into this HTML file
    #[arg(long, value_name = "FILE")]
    timings: Option<PathBuf>,
}

impl Insight {
    /// Tells it, once the work is done.
    pub fn tell(&self, context: &Context) -> Result<(), Failure> {
        if self.explain {
            context.progress().explain();
        }
        let Some(file) = &self.timings else {
            return Ok(());
        };
        fs::write(file, context.progress().chart()).map_err(|error| {
            Failure::new(Exit::Usage, error).context(format!("cannot write {}", file.display()))
        })
    }
}
