//! `[[run]]` and `[[stage]]`: commands that run while the image is baked.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::parse::{find_value, is_name};
use super::update::leaves;
use super::{FileSource, Mode, Recipe, RecipeError, Scripts};

/// Where files are only as long as a command of the sandbox runs.
const PASSING: [&str; 2] = ["/run/", "/tmp/"];

/// `[[run]]`: a command of the image's own, run once its packages are configured. It sees the
/// packages and its inputs, and may make or change its outputs and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Run {
    /// Name in reports.
    pub name: String,
    /// The program and its arguments; no shell reads them.
    pub command: Vec<String>,
    /// Variables beside those that every command has.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// Files that it reads, below `/run` or `/tmp`: they are gone when it ends.
    #[serde(default, rename = "input", skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Input>,
    /// Patterns of what it may make, change or remove.
    pub outputs: Vec<String>,
}

/// `[[stage]]`: a tree of its own with packages of its own, such as compilers, of which only the
/// outputs enter the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Stage {
    /// Name in reports and in the lock.
    pub name: String,
    /// Packages beside those that are Essential: `name`, `name=version` or `name:arch`.
    #[serde(default)]
    pub packages: Vec<String>,
    /// Files that the commands read.
    #[serde(default, rename = "input", skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Input>,
    /// Commands, one after the other: programs and their arguments; no shell reads them.
    pub commands: Vec<Vec<String>>,
    /// Variables beside those that every command has.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// What enters the image.
    #[serde(rename = "output")]
    pub outputs: Vec<Output>,
}

/// An input of a command: one file, or all files below a folder beside the recipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Input {
    /// Absolute path that the command finds it at.
    pub path: String,
    /// The content itself; either this or `source`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// A file or folder beside the recipe, relative to its folder; either this or `content`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Permissions of the file, or of all files of the folder.
    #[serde(default = "input_mode", skip_serializing_if = "is_input_mode")]
    pub mode: Mode,
}

impl Input {
    /// Where the bytes are; parsing has made sure that there is exactly one place.
    #[must_use]
    pub fn source(&self) -> FileSource<'_> {
        match (&self.content, &self.source) {
            (_, Some(source)) => FileSource::Local(source),
            (content, None) => FileSource::Content(content.as_deref().unwrap_or_default()),
        }
    }
}

const fn input_mode() -> Mode {
    Mode(0o644)
}

fn is_input_mode(mode: &Mode) -> bool {
    *mode == input_mode()
}

/// An output of a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Output {
    /// Absolute path of the file or folder in the stage.
    pub from: String,
    /// Absolute path in the image; as in the stage when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Permissions, when it is a file; as in the stage when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
}

impl Output {
    /// Where it gets to in the image.
    #[must_use]
    pub fn place(&self) -> &str {
        self.path.as_deref().unwrap_or(&self.from)
    }
}

impl Recipe {
    /// The inputs of all commands.
    pub fn command_inputs(&self) -> impl Iterator<Item = &Input> {
        let of_runs = self.runs.iter().flat_map(|run| &run.inputs);
        of_runs.chain(self.stages.iter().flat_map(|stage| &stage.inputs))
    }

    /// True when a bake of the recipe needs a sandbox.
    #[must_use]
    pub fn needs_sandbox(&self) -> bool {
        self.debian.scripts == Scripts::Sandbox || !self.stages.is_empty()
    }
}

/// Checks what TOML cannot.
pub(super) fn check(recipe: &Recipe, text: &str) -> Result<(), RecipeError> {
    let runs = recipe.runs.iter().map(|run| (&run.name, "[[run]]"));
    let stages = recipe.stages.iter().map(|stage| (&stage.name, "[[stage]]"));
    let mut seen = std::collections::BTreeSet::new();
    for (name, table) in runs.chain(stages) {
        let at = find_value(text, name);
        if !is_name(name) {
            let problem = format!("`{name}` is no name of a {table}: use a-z, 0-9 and -");
            return Err(RecipeError::at(text, at, problem));
        }
        if !seen.insert((name, table)) {
            let problem = format!("there are two {table} tables of the name `{name}`");
            return Err(RecipeError::at(text, at, problem));
        }
    }
    if let (Some(run), Scripts::Builtin) = (recipe.runs.first(), recipe.debian.scripts) {
        let at = find_value(text, &run.name);
        let problem = "a [[run]] command needs the packages' own scripts to have run before it";
        let hint = "write scripts = \"sandbox\" in [debian], or make a [[stage]] of it";
        return Err(RecipeError::at(text, at, problem.to_owned()).hint(hint));
    }
    for run in &recipe.runs {
        check_command(&run.command, &run.name, text)?;
        check_outputs(&run.outputs, &run.name, text)?;
        for input in &run.inputs {
            check_input(input, text)?;
            if !PASSING.iter().any(|place| input.path.starts_with(place)) {
                let problem = "an input of [[run]] lies below /run or /tmp: it is no part of the \
                               image";
                let at = find_value(text, &input.path);
                return Err(RecipeError::at(text, at, problem)
                    .hint("to put a file into the image, write a [[file]]"));
            }
        }
    }
    for stage in &recipe.stages {
        if stage.commands.is_empty() {
            let at = find_value(text, &stage.name);
            let problem = format!("the stage `{}` has no commands", stage.name);
            return Err(RecipeError::at(text, at, problem));
        }
        for command in &stage.commands {
            check_command(command, &stage.name, text)?;
        }
        stage
            .inputs
            .iter()
            .try_for_each(|input| check_input(input, text))?;
        let places = stage.outputs.iter();
        let places: Vec<String> = places
            .flat_map(|output| [output.from.clone(), output.place().to_owned()])
            .collect();
        check_outputs(&places, &stage.name, text)?;
    }
    Ok(())
}

fn check_command(command: &[String], of: &str, text: &str) -> Result<(), RecipeError> {
    match command.first().is_some_and(|program| !program.is_empty()) {
        true => Ok(()),
        false => {
            let problem = format!("`{of}` has a command without a program");
            Err(RecipeError::at(text, find_value(text, of), problem))
        }
    }
}

fn check_outputs(outputs: &[String], of: &str, text: &str) -> Result<(), RecipeError> {
    if outputs.is_empty() {
        let problem = format!("`{of}` has no outputs: whatever it does would be lost");
        return Err(RecipeError::at(text, find_value(text, of), problem));
    }
    let not_absolute = |path: &&String| !path.starts_with('/') || path.len() < 2;
    match outputs.iter().find(not_absolute) {
        None => Ok(()),
        Some(path) => {
            let problem = format!("`{path}` is no absolute path");
            Err(RecipeError::at(text, find_value(text, path), problem))
        }
    }
}

fn check_input(input: &Input, text: &str) -> Result<(), RecipeError> {
    let at = find_value(text, &input.path);
    let problem = if crate::tree::TreePath::new(&input.path).is_err()
        || !input.path.starts_with('/')
        || input.path.len() < 2
    {
        format!("`{}` is no absolute path", input.path)
    } else if input.content.is_some() == input.source.is_some() {
        format!("input {} needs either content or source", input.path)
    } else if let Some(source) = input.source.as_ref().filter(|source| leaves(source)) {
        let problem = format!("source `{source}` lies outside the recipe's folder");
        return Err(RecipeError::at(text, find_value(text, source), problem));
    } else {
        return Ok(());
    };
    Err(RecipeError::at(text, at, problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "name = \"tiny\"\nversion = \"1.0.0\"\n[debian]\nsuite = \"trixie\"\n\
        packages = [\"systemd\"]\nscripts = \"sandbox\"\n[kernel]\npackage = \"linux\"\n";

    const RUN: &str = "[[run]]\nname = \"fonts\"\ncommand = [\"fc-cache\"]\n\
        outputs = [\"/var/cache/x/**\"]\n";

    const STAGE: &str = "[[stage]]\nname = \"build\"\npackages = [\"gcc\"]\n\
        commands = [[\"gcc\", \"/src/a.c\"]]\n[[stage.input]]\npath = \"/src\"\n\
        source = \"files/src\"\n[[stage.output]]\nfrom = \"/a.out\"\npath = \"/usr/bin/a\"\n";

    #[test]
    fn commands_name_what_they_read_and_make() {
        let recipe = Recipe::parse(&format!("{GOOD}{RUN}{STAGE}")).unwrap();
        assert_eq!(recipe.runs[0].command, ["fc-cache"]);
        let stage = &recipe.stages[0];
        assert_eq!(stage.outputs[0].place(), "/usr/bin/a");
        let sources: Vec<_> = recipe.command_inputs().map(Input::source).collect();
        assert_eq!(sources, [FileSource::Local("files/src")]);
        assert!(recipe.needs_sandbox());
        let plain = Recipe::parse(GOOD).unwrap();
        let text = serde_json::to_string(&plain).unwrap();
        assert!(!text.contains("stage") && !text.contains("\"run\""));
    }

    #[test]
    fn what_would_do_nothing_or_too_much_is_refused() {
        let rows = [
            (RUN.replace("fonts", "Fonts!"), 10, "no name of a [[run]]"),
            (RUN.repeat(2), 10, "two [[run]] tables"),
            (STAGE.repeat(2), 10, "two [[stage]] tables"),
            (RUN.replace("[\"fc-cache\"]", "[]"), 10, "without a program"),
            (RUN.replace("[\"/var/cache/x/**\"]", "[]"), 10, "no outputs"),
            (RUN.replace("\"/var", "\"var"), 12, "no absolute path"),
            (
                format!("{RUN}[[run.input]]\npath = \"/etc/x\"\ncontent = \"\"\n"),
                14,
                "below /run or /tmp",
            ),
            (
                format!("{RUN}[[run.input]]\npath = \"/run/x\"\n"),
                14,
                "either content or source",
            ),
            (STAGE.replace("files/src", "../src"), 15, "outside"),
            (STAGE.replace("\"/a.out\"", "\"a.out\""), 17, "no absolute"),
            (
                STAGE.replace("[[\"gcc\", \"/src/a.c\"]]", "[]"),
                10,
                "no commands",
            ),
        ];
        for (tables, line, words) in rows {
            let error = Recipe::parse(&format!("{GOOD}{tables}")).unwrap_err();
            assert!(error.problem.contains(words), "{error}");
            assert_eq!(error.line, line, "{error}");
        }
        let builtin = GOOD.replace("sandbox", "builtin");
        let error = Recipe::parse(&format!("{builtin}{RUN}")).unwrap_err();
        assert!(error.problem.contains("packages' own scripts"), "{error}");
        assert!(Recipe::parse(&format!("{builtin}{STAGE}")).is_ok());
    }
}
