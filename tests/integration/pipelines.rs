//! The pipelines for CI systems that people copy (`baker/ci`): each is one by the schema of its
//! system, and its commands are those of this baker.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use baker_tests::bakery::{Locked, minimal, minimal_draft, seated};
use baker_tests::confined::Confined;
use baker_tests::program::{Baker, Said, said};
use baker_tests::{program, workspace};

use crate::sandbox;

/// The pipelines, by the schemas that check-jsonschema has.
const PIPELINES: [(&str, &str); 3] = [
    ("github.yml", "vendor.github-workflows"),
    ("gitlab.yml", "vendor.gitlab-ci"),
    ("woodpecker.yml", "vendor.woodpecker-ci"),
];

/// Prints the commands of a pipeline, one to a line.
const COMMANDS: &str = r#"
import sys, ruamel.yaml
def commands(node):
    if isinstance(node, list):
        for part in node:
            yield from commands(part)
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("run", "script", "commands"):
                yield from [value] if isinstance(value, str) else value
            else:
                yield from commands(value)
with open(sys.argv[1]) as file:
    print("\n".join(commands(ruamel.yaml.YAML(typ="safe").load(file))))
"#;

/// Stands before baker: asks it whether it knows the command, and answers like one that worked.
const ASKS: &str = "#!/bin/sh\n\"$BAKER\" \"$@\" --help >/dev/null && echo result\n";

fn pipeline(name: &str) -> PathBuf {
    workspace().join("baker/ci").join(name)
}

/// The judge, which knows the schemas of CI systems.
fn judge(test: &str) -> Option<PathBuf> {
    let judge = std::env::var_os("BAKER_CHECK_JSONSCHEMA").map(PathBuf::from);
    if judge.is_none() {
        baker_tests::skip(test, "BAKER_CHECK_JSONSCHEMA names no judge");
    }
    judge
}

fn commands(judge: &Path, name: &str) -> String {
    let mut python = Command::new(judge.with_file_name("python"));
    let output = python.args(["-c", COMMANDS]).arg(pipeline(name)).output();
    let said = said(&output.unwrap());
    said.assert(0, &[]);
    said.stdout
}

/// Runs commands as jobs do: in a shell that stops at the first that fails.
fn run(baker: &Baker, commands: &str, path: &Path) -> Said {
    let search = std::env::var("PATH").unwrap();
    let mut shell = baker.command([""; 0]);
    let environment: Vec<_> = shell
        .get_envs()
        .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
        .collect();
    shell = Command::new("sh");
    shell.args(["-euc", commands]).env_clear().envs(environment);
    shell.env("PATH", format!("{}:{search}", path.display()));
    shell.env("BAKER", program::program());
    shell.env("BAKER_TRUST", "keys/release.pub");
    shell.env("RUNNER_TEMP", baker.home());
    shell.env("RELEASE_KEY", baker.home().join("release.key"));
    shell.env("TARGET", baker.home().join("target"));
    said(&shell.current_dir(baker.home()).output().unwrap())
}

#[test]
fn pipelines_are_what_their_systems_take_and_name_this_baker() {
    let name = "pipelines_are_what_their_systems_take_and_name_this_baker";
    let Some(judge) = judge(name) else { return };
    let baker = Baker::new();
    let asks = baker.home().join("baker");
    fs::write(&asks, ASKS).unwrap();
    fs::set_permissions(&asks, fs::Permissions::from_mode(0o755)).unwrap();
    for (name, schema) in PIPELINES {
        let mut check = Command::new(&judge);
        check.args(["--builtin-schema", schema]).arg(pipeline(name));
        said(&check.output().unwrap()).assert(0, &[]);
        let commands = commands(&judge, name);
        assert!(commands.matches("baker ").count() >= 6, "{commands}");
        run(&baker, &commands, baker.home()).assert(0, &[]);
        let text = fs::read_to_string(pipeline(name)).unwrap();
        let image = format!("/baker:{}\n", env!("CARGO_PKG_VERSION"));
        assert!(text.contains(&image), "{name} names another {image}");
        // As the test sets it below.
        assert!(text.contains("BAKER_TRUST: keys/release.pub\n"), "{name}");
        let wrong = commands.replace("--check", "--chekc");
        run(&baker, &wrong, baker.home()).assert(2, &["--chekc"]);
    }
}

#[test]
fn the_commands_of_a_pipeline_bake_test_release_and_publish() {
    let name = "the_commands_of_a_pipeline_bake_test_release_and_publish";
    // Two rounds of tests in emulated machines.
    if std::env::var("BAKER_FIXTURES").is_ok_and(|value| value == "all") {
        let Some(judge) = judge(name) else { return };
        let locked = Locked::new("web", |text| text);
        let home = locked.baker.home();
        fs::create_dir(home.join("recipes")).unwrap();
        fs::rename(&locked.recipe, home.join("recipes/web")).unwrap();
        fs::create_dir(home.join("keys")).unwrap();
        let key = home.join("release.key");
        locked.baker.ok(["key", "new", key.to_str().unwrap()]);
        fs::rename(home.join("release.key.pub"), home.join("keys/release.pub")).unwrap();
        let commands = commands(&judge, "gitlab.yml");
        let folder = program::program().parent().unwrap();
        seated(|| run(&locked.baker, &commands, folder)).assert(0, &[]);
        for made in ["out/junit.xml", "out/releases/web-1.0.0", "target"] {
            assert!(home.join(made).exists(), "{made}");
        }
    }
}

#[test]
fn the_image_for_pipelines_bakes_what_its_maker_bakes() {
    let name = "the_image_for_pipelines_bakes_what_its_maker_bakes";
    // 140 packages and their scripts.
    if std::env::var("BAKER_FIXTURES").is_ok_and(|value| value == "all") {
        let Some(confined) = Confined::new(name, 384) else {
            return;
        };
        let root = unpacked_image(&minimal().baker);
        let confined = confined.with_root(&root);
        confined.bring(&minimal().recipe, minimal().baker.store());
        let said = confined.sh(
            "baker --version; baker bake recipe --to drafts >draft; sha256sum $(cat draft)/*.raw",
        );
        said.assert(0, &[]);
        let digest = sandbox::digest(minimal_draft(), ".raw").to_string();
        let version = format!("baker {}\n", env!("CARGO_PKG_VERSION"));
        let rest = said.stdout.strip_prefix(&version).unwrap();
        assert!(rest.starts_with(&digest), "{said:#?}");
    }
}

/// The image that scripts/ci-image makes, of this build of baker; the root in it.
fn unpacked_image(baker: &Baker) -> PathBuf {
    let folder = baker.home().join("ci-image");
    let sh = |commands: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-euc", commands]).current_dir(&folder);
        said(&shell.output().unwrap()).assert(0, &[]);
    };
    fs::create_dir_all(folder.join("recipe/files")).unwrap();
    let recipe = workspace().join("baker/ci/image/recipe.toml");
    fs::copy(recipe, folder.join("recipe/recipe.toml")).unwrap();
    let program = program::program().display();
    sh(&format!("strip -o recipe/files/baker '{program}'"));
    let recipe = folder.join("recipe");
    let recipe = recipe.to_str().unwrap();
    baker.ok(["lock", recipe]);
    baker.ok(["fetch", recipe]);
    let drafts = folder.join("drafts");
    let draft = baker.ok(["bake", recipe, "--to", drafts.to_str().unwrap()]);
    let draft = draft.stdout.trim();
    let manifest = fs::read_to_string(Path::new(draft).join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let hygiene = &manifest["hygiene"];
    assert!(
        hygiene.is_object() && hygiene["open"].is_null(),
        "{hygiene}"
    );
    sh(&format!(
        "mkdir layout; tar -C layout -xf '{draft}'/*.oci.tar; \
         umoci unpack --image layout:baker:{} root",
        env!("CARGO_PKG_VERSION")
    ));
    folder.join("root/rootfs")
}
