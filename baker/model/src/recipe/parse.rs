//! From TOML text to a checked [`Recipe`].

use crate::plan::{Firmware, TestPlan};

use super::hygiene::check_hygiene;
use super::{
    Format, Recipe, RecipeError, accounts, check_tests, credential, debian, disk, network, promote,
    run, snippet, system, update,
};

impl Recipe {
    /// Parses and checks the text of a `recipe.toml`.
    ///
    /// # Errors
    /// Not TOML, an unknown key, a wrong type, or values that make no sense together; always with
    /// the place.
    pub fn parse(text: &str) -> Result<Self, RecipeError> {
        let recipe: Self = toml::from_str(text).map_err(|error| text_error(text, &error))?;
        recipe.check(text)?;
        Ok(recipe)
    }

    fn check(&self, text: &str) -> Result<(), RecipeError> {
        let fail =
            |key: &str, problem: String| Err(RecipeError::at(text, find_key(text, key), problem));
        if !is_name(&self.name) {
            return fail(
                "name",
                format!(
                    "`{}` is not a name: use a-z, 0-9 and -, at most 32 characters",
                    self.name
                ),
            );
        }
        if !is_version(&self.version) {
            return fail(
                "version",
                format!("`{}` is not a version like 1.2.3", self.version),
            );
        }
        self.check_slots(text)?;
        self.check_formats(text)?;
        let secure = |plan: &TestPlan| plan.firmware == Firmware::UefiSecure;
        if !self.boot.secure_boot && self.tests.iter().any(secure) {
            let problem = "a test with uefi-secure needs `secure-boot = true` in [boot]";
            let at = find_value(text, "uefi-secure");
            return Err(RecipeError::at(text, at, problem.to_owned()));
        }
        self.root.check(text)?;
        if let Some(name) = self.profiles.0.iter().find(|name| !is_name(name)) {
            let problem = format!("`{name}` is no name of a profile: use a-z, 0-9 and -");
            return Err(RecipeError::at(text, 0, problem));
        }
        debian::check(&self.debian, text)?;
        run::check(self, text)?;
        check_hygiene(&self.hygiene, text)?;
        self.check_paths(text)?;
        promote::check(&self.promote, text)?;
        update::check(self, text)?;
        accounts::check(self, text)?;
        credential::check(self, text)?;
        disk::check_data(self, text)?;
        network::check(self, text)?;
        snippet::check(self, text)?;
        system::check(self, text)?;
        self.check_duplicates(text)
    }

    fn check_slots(&self, text: &str) -> Result<(), RecipeError> {
        let disk = &self.disk;
        let fail =
            |key: &str, problem: String| Err(RecipeError::at(text, find_key(text, key), problem));
        match disk.slots {
            1 => {
                let counted = [
                    ("tries", disk.tries.is_some()),
                    ("health", !disk.health.is_empty()),
                    ("health-seconds", disk.health_seconds.is_some()),
                ];
                match counted.into_iter().find(|(_, given)| *given) {
                    Some((key, _)) => fail(
                        key,
                        format!("`{key}` is about boot counting, which needs slots = 2"),
                    ),
                    None => Ok(()),
                }
            }
            2 if !(1..=9).contains(&disk.tries()) => fail(
                "tries",
                format!("tries can be 1 to 9, not {}", disk.tries()),
            ),
            2 if disk.health_seconds() == 0 => fail(
                "health-seconds",
                "no boot is good after 0 seconds".to_owned(),
            ),
            // The loader takes what follows the last `+` of a file name for its counter.
            2 if self.version.contains('+') => fail(
                "version",
                "with slots = 2 a version has no `+`: the boot loader counts with it".to_owned(),
            ),
            2 => Ok(()),
            slots => fail("slots", format!("slots can be 1 or 2, not {slots}")),
        }
    }

    fn check_formats(&self, text: &str) -> Result<(), RecipeError> {
        let formats = &self.disk.formats;
        for (place, format) in formats.iter().enumerate() {
            if formats[..place].contains(format) {
                let problem = format!("the format `{format}` is given twice");
                return Err(RecipeError::at(text, find_key(text, "formats"), problem));
            }
        }
        for test in &self.tests {
            let format = test.format;
            let at = find_value(text, format.name());
            if format == Format::Netboot && test.firmware == Firmware::Bios {
                let problem = "BIOS starts no kernel by itself; a test of the format `netboot` \
                               takes firmware = \"direct\", \"uefi\" or \"uefi-secure\"";
                return Err(RecipeError::at(text, at, problem));
            }
            if !format.is_bootable() {
                let problem = format!("nothing can boot from the format `{format}`");
                return Err(RecipeError::at(text, at, problem));
            }
            if format != Format::Raw && !formats.contains(&format) {
                let problem = format!("a test boots the format `{format}`, which is not made");
                let hint = format!("add \"{format}\" to `formats` in [disk]");
                return Err(RecipeError::at(text, at, problem).hint(hint));
            }
        }
        Ok(())
    }

    fn check_paths(&self, text: &str) -> Result<(), RecipeError> {
        let paths = self
            .files
            .iter()
            .map(|file| &file.path)
            .chain(self.directories.iter().map(|directory| &directory.path))
            .chain(self.links.iter().map(|link| &link.path));
        for path in paths {
            let at = find_value(text, path);
            if !path.starts_with('/') || path.len() < 2 {
                return Err(RecipeError::at(
                    text,
                    at,
                    format!("`{path}` is no absolute path"),
                ));
            }
            crate::tree::TreePath::new(path)
                .map_err(|error| RecipeError::at(text, at, error.to_string()))?;
        }
        for file in &self.files {
            if file.content.is_some() == file.source.is_some() {
                let problem = format!("file {} needs either content or source", file.path);
                return Err(RecipeError::at(text, find_value(text, &file.path), problem));
            }
            if let Some(source) = file.source.as_ref().filter(|it| update::leaves(it)) {
                let problem = format!("source `{source}` lies outside the recipe's folder");
                return Err(RecipeError::at(text, find_value(text, source), problem));
            }
        }
        Ok(())
    }

    fn check_duplicates(&self, text: &str) -> Result<(), RecipeError> {
        let mut seen = std::collections::BTreeSet::new();
        let files = self.files.iter().map(|file| file.path.as_str());
        let links = self.links.iter().map(|link| link.path.as_str());
        for path in files.chain(links) {
            if !seen.insert(path.to_owned()) {
                let offset = text.rfind(&format!("\"{path}\"")).unwrap_or(0);
                return Err(RecipeError::at(
                    text,
                    offset,
                    format!("{path} is given twice"),
                ));
            }
        }
        for file in self.derived_files() {
            if !seen.insert(file.path.clone()) {
                let problem = format!("{} is given twice: another table makes it", file.path);
                return Err(RecipeError::at(text, find_value(text, &file.path), problem));
            }
        }
        check_tests(&self.tests, text)
    }
}

/// True for what may be the name of a recipe: `[a-z0-9][a-z0-9-]*`, at most 32 bytes.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=32).contains(&name.len())
        && plain(name.as_bytes()[0])
        && name.bytes().all(|byte| plain(byte) || byte == b'-')
}

/// SemVer 2.0: three numbers without leading zeros, then optional `-pre` and `+build` parts.
fn is_version(version: &str) -> bool {
    let (rest, build) = version
        .split_once('+')
        .map_or((version, None), |(a, b)| (a, Some(b)));
    let (core, pre) = rest
        .split_once('-')
        .map_or((rest, None), |(a, b)| (a, Some(b)));
    let number = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_digit())
            && (part == "0" || !part.starts_with('0'))
    };
    let words = |part: &str| {
        part.split('.').all(|word| {
            !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
    };
    core.split('.').count() == 3
        && core.split('.').all(number)
        && pre.is_none_or(words)
        && build.is_none_or(words)
}

/// Offset of the first line that sets `key`; the start of the text when there is none.
pub(super) fn find_key(text: &str, key: &str) -> usize {
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let rest = line.trim_start();
        if rest
            .strip_prefix(key)
            .is_some_and(|rest| rest.trim_start().starts_with('='))
        {
            return offset + line.len() - rest.len();
        }
        offset += line.len();
    }
    0
}

/// Offset of a quoted value; the start of the text when it is not written that way.
pub(crate) fn find_value(text: &str, value: &str) -> usize {
    text.find(&format!("\"{value}\"")).unwrap_or(0)
}

pub(crate) fn text_error(text: &str, error: &toml::de::Error) -> RecipeError {
    let offset = error.span().map_or(0, |span| span.start);
    let message = error.message();
    let mut known = message.split('`').skip(1).step_by(2);
    if message.starts_with("unknown field") || message.starts_with("unknown variant") {
        let what = if message.starts_with("unknown field") {
            "key"
        } else {
            "value"
        };
        let found = known.next().unwrap_or_default();
        let known: Vec<&str> = known.collect();
        let problem = format!("unknown {what} `{found}`");
        return RecipeError::at(text, offset, problem).hint(suggestion(found, &known));
    }
    if let Some(key) = message.strip_prefix("missing field ") {
        return RecipeError::at(text, offset, format!("the key {key} is missing"));
    }
    RecipeError::at(text, offset, message.trim().replace('\n', ", "))
}

fn suggestion(found: &str, known: &[&str]) -> String {
    let nearest = known.iter().min_by_key(|word| distance(found, word));
    match nearest.filter(|word| distance(found, word) <= found.len().max(3) / 2) {
        Some(word) => format!("did you mean `{word}`?"),
        None => format!("known here: {}", known.join(", ")),
    }
}

/// Edit distance by Levenshtein, over bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.bytes().enumerate() {
            let change = diagonal + usize::from(left != right);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "name = \"tiny\"\nversion = \"1.0.0\"\n\n[debian]\nsuite = \"trixie\"\n\
        packages = [\"systemd\"]\n\n[kernel]\npackage = \"linux-image-cloud-amd64\"\n";

    fn refused(text: &str) -> RecipeError {
        Recipe::parse(text).expect_err("this recipe must be refused")
    }

    #[test]
    fn a_good_recipe_gets_its_defaults() {
        let recipe = Recipe::parse(GOOD).unwrap();
        assert_eq!(
            recipe.debian.suites(),
            ["trixie", "trixie-updates", "trixie-security"]
        );
        assert_eq!(recipe.disk.slots, 1);
        assert_eq!(
            recipe.digest(),
            Recipe::parse(&format!("# hello\n{GOOD}")).unwrap().digest()
        );
    }

    #[test]
    fn a_misspelt_key_names_place_and_nearest_key() {
        let error = refused(&GOOD.replace("packages", "pakages"));
        assert_eq!((error.line, error.column), (6, 1));
        assert_eq!(error.problem, "unknown key `pakages`");
        assert_eq!(error.hint.as_deref(), Some("did you mean `packages`?"));
    }

    #[test]
    fn wrong_values_name_their_place() {
        let rows = [
            ("version = \"1.0.0\"", "version = 1", 2, "invalid type"),
            (
                "version = \"1.0.0\"",
                "version = \"1.0\"",
                2,
                "not a version",
            ),
            ("name = \"tiny\"", "name = \"Tiny!\"", 1, "not a name"),
            ("suite = \"trixie\"\n", "", 4, "`suite` is missing"),
        ];
        for (from, to, line, words) in rows {
            let error = refused(&GOOD.replace(from, to));
            assert_eq!(error.line, line, "{error}");
            assert!(error.problem.contains(words), "{error}");
        }
        let rows = [
            ("[disk]\nslots = 3\n", "slots can be 1 or 2"),
            ("[disk]\ntries = 2\n", "needs slots = 2"),
            ("[disk]\nhealth = [\"a.service\"]\n", "needs slots = 2"),
            ("[disk]\nslots = 2\ntries = 0\n", "1 to 9"),
            ("[disk]\nslots = 2\nhealth-seconds = 0\n", "0 seconds"),
        ];
        for (disk, words) in rows {
            let error = refused(&format!("{GOOD}{disk}"));
            assert!(error.line > 9 && error.problem.contains(words), "{error}");
        }
        let rows = [
            ("[disk]\nformats = [\"qcow2\", \"qcow2\"]\n", "given twice"),
            ("[disk]\nformats = [\"qcow\"]\n", "unknown value `qcow`"),
            (
                "[disk]\nformats = [\"tar\"]\n[[test]]\nformat = \"tar\"\n",
                "nothing can boot",
            ),
            ("[[test]]\nformat = \"vmdk\"\n", "not made"),
            (
                "[[test]]\nformat = \"netboot\"\nfirmware = \"bios\"\n",
                "starts no kernel",
            ),
            ("[[test]]\nformat = \"netboot\"\n", "not made"),
        ];
        for (tables, words) in rows {
            let error = refused(&format!("{GOOD}{tables}"));
            assert!(error.line > 9 && error.problem.contains(words), "{error}");
        }
        let formats = "[disk]\nformats = [\"raw\", \"qcow2\"]\n[[test]]\nformat = \"qcow2\"\n";
        let recipe = Recipe::parse(&format!("{GOOD}{formats}")).unwrap();
        assert_eq!(recipe.tests[0].format, Format::Qcow2);
        let counted = GOOD.replace("1.0.0", "1.0.0+5") + "[disk]\nslots = 2\n";
        assert!(refused(&counted).problem.contains("counts with it"));
        let both = "[[file]]\npath = \"/x\"\ncontent = \"\"\nsource = \"y\"\n";
        assert!(
            refused(&format!("{GOOD}{both}"))
                .problem
                .contains("either content or source")
        );
        let test = "[[test]]\nfirmware = \"uefi-secure\"\n";
        let error = refused(&format!("{GOOD}{test}"));
        assert!(error.problem.contains("`secure-boot = true`"), "{error}");
        assert_eq!((error.line, error.column), (11, 12), "{error}");
        let signed = format!("{GOOD}[boot]\nsecure-boot = true\n{test}");
        assert!(Recipe::parse(&signed).unwrap().boot.secure_boot);
        let out = "[[file]]\npath = \"/x\"\nsource = \"../y\"\n";
        let error = refused(&format!("{GOOD}{out}"));
        assert_eq!((error.line, error.column), (12, 10), "{error}");
    }
}
