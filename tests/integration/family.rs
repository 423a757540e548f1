//! Recipes that extend others, profiles, commands of a recipe and build stages, on the real
//! archive: what is shared is made once, and what is declared is all that enters.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use baker_model::Lock;
use baker_model::lock::PackageLock;
use baker_tests::bakery::Locked;
use baker_tests::program::Baker;

use crate::sandbox::{bake_at, digest, sandboxed};

/// Extends the copy of `minimal`; a command, a stage and a profile of its own.
const CHILD: &str = r#"extends = "../minimal"
name = "child"

[debian]
packages = ["tzdata"]

[[run]]
name = "stamp"
command = ["sh", "-c", "mkdir /usr/share/stamp && cat /run/in/word > /usr/share/stamp/word && date +%s >> /usr/share/stamp/word"]
outputs = ["/usr/share/stamp/**"]

[[run.input]]
path = "/run/in/word"
content = "baked\n"

[[stage]]
name = "build"
commands = [["sh", "-c", "mkdir /out && cat /src/a /src/deep/b > /out/both && ls /usr/share/zoneinfo > /out/zones; true"]]

[[stage.input]]
path = "/src"
source = "files/src"

[[stage.output]]
from = "/out"
path = "/usr/lib/built"

[profile.debug.debian]
packages = ["less"]
"#;

/// The parent and its child, both locked.
struct Family {
    parent: Locked,
    child: PathBuf,
}

impl Family {
    fn baker(&self) -> &Baker {
        &self.parent.baker
    }
}

fn family() -> &'static Family {
    static FAMILY: OnceLock<Family> = OnceLock::new();
    FAMILY.get_or_init(|| {
        let packages = "\"base-files\", \"base-passwd\", \"systemd\", \"ca-certificates\"";
        let parent = sandboxed(packages, "");
        let child = child_of(&parent, "child", CHILD);
        Family { parent, child }
    })
}

/// A recipe beside its parent, with the files that its stage reads; locked with its profiles.
fn child_of(parent: &Locked, name: &str, text: &str) -> PathBuf {
    let recipe = parent.baker.home().join(name);
    fs::create_dir_all(recipe.join("files/src/deep")).unwrap();
    fs::write(recipe.join("files/src/a"), "a\n").unwrap();
    fs::write(recipe.join("files/src/deep/b"), "b\n").unwrap();
    fs::write(recipe.join("recipe.toml"), text).unwrap();
    let profiles: &[&str] = match text.contains("[profile.debug") {
        true => &["--profile", "debug"],
        false => &[],
    };
    let recipe_word = recipe.to_str().unwrap();
    parent.baker.ok(["lock", recipe_word]);
    let fetch = ["fetch", recipe_word].into_iter();
    parent.baker.ok(fetch.chain(profiles.iter().copied()));
    recipe
}

fn lock(recipe: &Path, name: &str) -> Lock {
    Lock::parse(&fs::read_to_string(recipe.join(name)).unwrap()).unwrap()
}

fn listed(baker: &Baker, draft: &Path) -> String {
    let draft = draft.to_str().unwrap();
    baker.ok(["inspect", draft, "--files", "/**"]).stdout
}

/// The text of a file of a root.
fn text(baker: &Baker, draft: &Path, path: &str) -> String {
    let draft = draft.to_str().unwrap();
    baker.ok(["inspect", draft, "--cat", path]).stdout
}

#[test]
fn who_extends_a_recipe_stands_on_its_packages_and_never_runs_them_again() {
    let family = family();
    let (baker, Family { parent, child }) = (family.baker(), family);
    let (below, above) = (
        lock(&parent.recipe, "recipe.lock"),
        lock(child, "recipe.lock"),
    );
    // What was only there for scripts below may be part of the image above.
    let has = |lock: &Lock, below: &Lock| {
        let same = |a: &PackageLock, b: &PackageLock| (&a.name, a.sha256) == (&b.name, b.sha256);
        let mut all = below.packages.iter();
        all.all(|package| lock.packages.iter().any(|it| same(it, package)))
    };
    assert!(has(&above, &below));
    assert!(above.packages.iter().any(|it| it.name == "tzdata"));
    assert_eq!(above.layers.len(), 1);
    assert_eq!(above.layers[0].pins, below.pins());
    let debug = lock(child, "recipe.debug.lock");
    assert!(has(&debug, &above) && !has(&above, &debug));
    assert_eq!(debug.layers[1].runs, ["stamp"]);

    bake_at(baker, &parent.recipe, &[]);
    let (first, said) = bake_at(baker, child, &[]);
    let runs = |text: &str, name: &str| text.contains(&format!("{name}: ")) && text.contains("ran");
    assert!(!runs(&said.stderr, "minimal"), "{}", said.stderr);
    // A changed command runs again, and nothing below it.
    let other = child_of(
        parent,
        "other",
        &CHILD
            .replace("name = \"child\"", "name = \"other\"")
            .replace("baked", "other"),
    );
    let (second, said) = bake_at(baker, &other, &[]);
    assert!(!runs(&said.stderr, "minimal"), "{}", said.stderr);
    assert!(!said.stderr.contains("other: 0 ran"), "{}", said.stderr);
    let word = text(baker, &first, "/usr/share/stamp/word");
    assert_eq!(word, format!("baked\n{}\n", above.epoch));
    let word = text(baker, &second, "/usr/share/stamp/word");
    assert_eq!(word, format!("other\n{}\n", above.epoch));
    // Everything anew, of what is in the release alone, gives the same.
    let release = released(baker, child);
    assert_eq!(digest(&first, ".raw"), digest(&release, ".raw"));
    let said = baker.ok([
        "verify",
        release.to_str().unwrap(),
        "--trust",
        "key.pub",
        "--rebuild",
    ]);
    let same = "was baked again and is the same, byte for byte";
    assert!(said.stdout.contains(same), "{said:#?}");
    let (debug, _) = bake_at(baker, child, &["--profile", "debug"]);
    assert!(debug.ends_with("child-debug-1.0.0.draft"), "{debug:?}");
    assert!(listed(baker, &debug).contains("/usr/bin/less"));
    assert!(!listed(baker, &first).contains("/usr/bin/less"));
}

/// A release of a recipe, by a key in the home of its maker.
fn released(baker: &Baker, recipe: &Path) -> PathBuf {
    baker.ok(["key", "new", "key"]);
    let words = ["release", recipe.to_str().unwrap(), "--key", "key", "--to"];
    let more = ["releases", "--waive-tests", "this is about bytes"];
    let said = baker.ok(words.into_iter().chain(more));
    baker.home().join(said.stdout.trim())
}

#[test]
fn of_a_stage_only_its_outputs_enter() {
    let family = family();
    let (baker, child) = (family.baker(), &family.child);
    let (draft, _) = bake_at(baker, child, &[]);
    assert_eq!(text(baker, &draft, "/usr/lib/built/both"), "a\nb\n");
    // The stage has no packages of the image.
    assert_eq!(text(baker, &draft, "/usr/lib/built/zones"), "");
    let files = listed(baker, &draft);
    for gone in ["/src/", "/out/", "/run/in"] {
        assert!(!files.contains(gone), "{gone}");
    }
    let bill = fs::read_to_string(ending(&draft, ".cdx.json")).unwrap();
    assert!(
        bill.contains("effect stage") || bill.contains("effect:stage"),
        "owner"
    );
}

fn ending(draft: &Path, end: &str) -> PathBuf {
    let mut files = fs::read_dir(draft).unwrap();
    let found = files.find_map(|entry| {
        let path = entry.unwrap().path();
        path.to_string_lossy().ends_with(end).then_some(path)
    });
    found.unwrap()
}

#[test]
fn what_a_command_was_not_meant_to_do_is_refused_by_name() {
    let Family { parent, .. } = family();
    let refused = |name: &str, change: &dyn Fn(String) -> String, code, words: &[&str]| {
        let text = CHILD.replace("name = \"child\"", &format!("name = \"{name}\""));
        let recipe = child_of(parent, name, &change(text));
        let to = parent.baker.home().join("refused");
        let (recipe, place) = (recipe.to_str().unwrap(), to.to_str().unwrap());
        let said = parent.baker.run(["bake", recipe, "--to", place]);
        said.assert(code, words);
        assert!(!to.join(format!("{name}-1.0.0.draft")).exists());
    };
    refused(
        "stray",
        &|text| text.replace("&& date", "&& echo 1 > /etc/stray && date"),
        5,
        &[
            "`stamp` of [[run]]",
            "outputs: /etc/stray",
            "add it to `outputs`",
        ],
    );
    refused(
        "failing",
        &|text| text.replace("cat /src/a", "echo why; exit 1; cat"),
        5,
        &[
            "of `build` ended with code 1",
            "why",
            "baker shell",
            "--stage build",
        ],
    );
    refused(
        "lacking",
        &|text| text.replace("from = \"/out\"", "from = \"/none\""),
        5,
        &["/none"],
    );
}

#[test]
fn mistakes_of_a_family_name_the_file_they_are_in() {
    let Family { parent, .. } = family();
    let run = |name: &str, text: &str, words: &[&str], args: &[&str]| {
        let recipe = parent.baker.home().join(name);
        fs::create_dir_all(&recipe).unwrap();
        fs::write(recipe.join("recipe.toml"), text).unwrap();
        let args = args.iter().copied().chain([recipe.to_str().unwrap()]);
        let said = parent.baker.run(args);
        assert!([2, 3, 4].contains(&said.code.unwrap()), "{said:#?}");
        for word in words {
            assert!(said.stderr.contains(word), "{word}: {said:#?}");
        }
    };
    let lock = &["lock"];
    let own = "extends = \"../minimal\"\nname = \"own\"\n";
    run(
        "misspelt",
        &format!("{own}[debian]\npakages = [\"cron\"]\n"),
        &["misspelt/recipe.toml:4:1", "did you mean `packages`?"],
        lock,
    );
    run(
        "nameless",
        "extends = \"../minimal\"\n",
        &["nameless/recipe.toml", "needs a `name` of its own"],
        lock,
    );
    run(
        "orphan",
        "extends = \"../nowhere\"\nname = \"x\"\n",
        &["orphan/recipe.toml extends ../nowhere", "cannot read"],
        lock,
    );
    run(
        "circle",
        "extends = \"../circle\"\nname = \"x\"\n",
        &["extends itself"],
        lock,
    );
    run(
        "profiled",
        own,
        &["has no profile `debug`", "[profile.debug]"],
        &["lock", "--profile", "debug"],
    );
    run(
        "pinned",
        &format!("{own}[debian]\npackages = [\"systemd=1\"]\n"),
        &["`systemd=1` is asked for", "`minimal`"],
        lock,
    );
}

#[test]
fn a_parent_that_was_locked_anew_is_noticed() {
    let packages = "\"base-files\", \"base-passwd\", \"systemd\", \"ca-certificates\"";
    let parent = sandboxed(packages, "");
    let child = child_of(&parent, "child", CHILD);
    let path = parent.recipe.join("recipe.lock");
    let mut lock = lock(&parent.recipe, "recipe.lock");
    lock.epoch += 1;
    fs::write(&path, lock.to_text()).unwrap();
    let recipe = child.to_str().unwrap();
    let said = parent.baker.run(["bake", recipe]);
    said.assert(4, &["which it extends, was locked anew", "baker lock"]);
    fs::remove_file(path).unwrap();
    let said = parent.baker.run(["bake", recipe]);
    said.assert(4, &["which has no recipe.lock", "baker lock"]);
}
