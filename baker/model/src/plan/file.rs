//! A plan file: tests for an image that has no recipe.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::TestPlan;
use crate::recipe::{Format, RecipeError, check_tests, find_value, text_error};

/// What is wrong with a plan file, and where.
pub type PlanFileError = RecipeError;

/// `plan.toml`: the `[[test]]` tables of a recipe, for an image that baker did not make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PlanFile {
    /// One line about the image.
    #[serde(default)]
    pub summary: String,
    /// The tests.
    #[serde(default, rename = "test")]
    pub tests: Vec<TestPlan>,
}

impl PlanFile {
    /// Parses and checks the text of a plan file.
    ///
    /// # Errors
    /// Not TOML, an unknown key, a wrong type, values that make no sense together, or no test;
    /// always with the place.
    pub fn parse(text: &str) -> Result<Self, PlanFileError> {
        let file: Self = toml::from_str(text).map_err(|error| text_error(text, &error))?;
        if file.tests.is_empty() {
            let problem = "the plan has no [[test]]".to_owned();
            return Err(RecipeError::at(text, 0, problem));
        }
        check_tests(&file.tests, text)?;
        if let Some(test) = file.tests.iter().find(|test| test.format != Format::Raw) {
            let at = find_value(text, test.format.name());
            let problem = "an image without a recipe has one form, which it tells itself";
            return Err(RecipeError::at(text, at, problem));
        }
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_as_strict_as_a_recipe() {
        let good = "[[test]]\nfirmware = \"bios\"\nconsole = [\"login:\"]\n";
        assert_eq!(PlanFile::parse(good).unwrap().tests.len(), 1);
        let rows = [
            ("test = []", "no [[test]]"),
            ("", "no [[test]]"),
            ("[[test]]\nfirmwares = \"bios\"\n", "firmware"),
            ("[[test]]\nformat = \"qcow2\"\n", "has one form"),
            ("[[test]]\nname = \"a/b\"\n", "a/b"),
            ("[[test]]\nlistening = [\"22\"]\n", "tcp:22"),
            ("[[test]]\n[[test.command]]\nrun = []\n", "run"),
            (
                "[[test]]\n[[test.command]]\nrun = [\"/x\"]\nafter-restart = true\n",
                "[test.reboot]",
            ),
            ("[[test]]\n[[test.command]]\nrun = [\"ls\"]\n", "absolute"),
            ("[[test]]\n[[test.file]]\npath = \"etc\"\n", "absolute"),
            ("[[test]]\nmemory-mib = 0\n", "memory-mib"),
            ("[[test]]\nnetworks = 99\n", "networks"),
        ];
        for (text, expected) in rows {
            let error = PlanFile::parse(text).unwrap_err();
            let said = format!("{error} {:?}", error.hint);
            assert!(said.contains(expected), "{text}: {said}");
        }
    }
}
