//! `baker schema`

use baker_model::recipe;

use crate::context::Context;
use crate::exit::{Exit, Failure};

/// Prints the JSON Schema of recipe.toml, with which editors complete keys and
/// mark mistakes.
///
/// An editor that knows TOML takes it from a comment in the recipe:
/// `#:schema ../recipe.schema.json`. `baker new` writes both.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs it.
pub fn run(_: &Args, context: &Context) -> Result<(), Failure> {
    let schema = recipe::schema();
    context.answer(&text(&schema)?, &schema)
}

/// The schema as a file for people and editors.
pub fn text(schema: &serde_json::Value) -> Result<String, Failure> {
    serde_json::to_string_pretty(schema).map_err(|error| Failure::new(Exit::Internal, error))
}
