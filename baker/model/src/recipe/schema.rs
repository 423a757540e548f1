//! The recipe as a JSON Schema, for editors that complete and check while a person writes.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::Recipe;
use crate::Digest;

/// JSON Schema of `recipe.toml`, made from the types that parse it: keys, types, defaults, words to
/// choose from; the descriptions are the documentation of the types. What only a look at several
/// keys tells (`content` or `source`) is left to the parser.
///
/// Draft 7, as editors of TOML know no later one.
#[must_use]
pub fn schema() -> Value {
    let generator = SchemaSettings::draft07().into_generator();
    let mut schema = generator.into_root_schema_for::<Recipe>();
    schema.insert("title".to_owned(), "baker recipe".into());
    schema.to_value()
}

impl JsonSchema for Digest {
    fn schema_name() -> Cow<'static, str> {
        "Digest".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A SHA-256 digest: 64 lower-case hex digits.",
            "type": "string",
            "pattern": "^[0-9a-f]{64}$",
        })
    }
}
