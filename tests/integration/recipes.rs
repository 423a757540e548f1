//! The recipes that people copy from: each bakes to the same bytes whenever its scripts run, and
//! passes its own plan. All of them with `BAKER_FIXTURES=all`, otherwise a small one without boots.

use std::fs;
use std::path::{Path, PathBuf};

use baker_model::Digest;
use baker_tests::bakery::{Locked, seated};
use baker_tests::locked_recipes;

/// True when everything is wanted, whatever it takes.
fn all() -> bool {
    std::env::var("BAKER_FIXTURES").is_ok_and(|value| value == "all")
}

/// Names of the recipes with a lock.
fn names() -> Vec<String> {
    if !all() {
        return vec!["keeper".to_owned()];
    }
    locked_recipes()
}

/// Bakes with the scripts run again, into a folder of its own.
fn bake_anew(locked: &Locked) -> PathBuf {
    let to = tempfile::tempdir_in(locked.baker.home()).unwrap().keep();
    let (recipe, to) = (locked.recipe.as_os_str(), to.as_os_str());
    let words = ["bake".as_ref(), recipe, "--anew".as_ref(), "--to".as_ref()];
    let said = locked.baker.ok(words.into_iter().chain([to]));
    PathBuf::from(said.stdout.trim())
}

fn disk(draft: &Path) -> Digest {
    let mut files = fs::read_dir(draft).unwrap().map(|it| it.unwrap().path());
    let raw = files.find(|path| path.extension().is_some_and(|ending| ending == "raw"));
    Digest::of(&fs::read(raw.unwrap()).unwrap())
}

/// Tests a draft by the plan of its recipe, or as the update of another.
fn passes(locked: &Locked, draft: &Path, after: Option<&Path>) {
    let evidence = locked.baker.home().join("evidence");
    let mut words = vec!["test".as_ref(), draft.as_os_str()];
    words.extend(["--evidence".as_ref(), evidence.as_os_str()]);
    if let Some(old) = after {
        words.extend(["--after".as_ref(), old.as_os_str()]);
    }
    let said = seated(|| locked.baker.run(words));
    assert_eq!(said.code, Some(0), "{}: {said:#?}", draft.display());
}

#[test]
fn recipes_bake_to_the_same_disk_twice_and_pass_their_plans() {
    for name in names() {
        let locked = Locked::new(&name, |text| text);
        let (first, second) = (bake_anew(&locked), bake_anew(&locked));
        assert_eq!(disk(&first), disk(&second), "{name}");
        if all() {
            passes(&locked, &first, None);
        }
        if all() && name == "database" {
            rows_outlive(&first);
        }
    }
}

/// What the plan asks of an update: the next version reads the row that `old` has written.
fn rows_outlive(old: &Path) {
    let new = Locked::new("database", |text| {
        text.replace("version = \"1.0.0\"", "version = \"2.0.0\"")
            .replace("values ('1.0.0')", "values ('2.0.0')")
    });
    let draft = new.bake(&new.baker.home().join("drafts"));
    passes(&new, &draft, Some(old));
}
