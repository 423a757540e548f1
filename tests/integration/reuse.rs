//! What a bake takes over from earlier ones: never a byte that it would not make itself.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use baker_tests::bakery::{copy_folder, minimal};
use baker_tests::program::{Said, said};
use serde_json::Value;

/// A store of its own that holds the packages of `minimal`, and copies of the recipe to change.
struct Kitchen {
    folder: tempfile::TempDir,
}

impl Kitchen {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        minimal().copy_inputs(&folder.path().join("store"));
        copy_folder(&minimal().recipe, &folder.path().join("recipe"));
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, words: &[&str]) -> std::process::Command {
        let mut command = minimal().baker.command(words);
        command
            .env("BAKER_STORE", self.path("store"))
            .current_dir(self.folder.path());
        command
    }

    fn run(&self, words: &[&str]) -> Said {
        said(&self.command(words).output().unwrap())
    }

    /// Bakes into the folder `to`; gives what `--explain` says.
    fn bake(&self, to: &str, more: &[&str]) -> Value {
        let words = ["--json", "bake", "recipe", "--explain", "--to", to];
        let said = self.run(&[&words[..], more].concat());
        assert_eq!(said.code, Some(0), "{said:#?}");
        let mut lines = said
            .stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        lines
            .find(|line: &Value| line["event"] == "explained")
            .expect("an explanation was asked for")
    }

    /// The files of the draft in the folder `to`.
    fn draft(&self, to: &str) -> Vec<(String, Vec<u8>)> {
        let draft = fs::read_dir(self.path(to))
            .unwrap()
            .next()
            .unwrap()
            .unwrap();
        let entries = fs::read_dir(draft.path())
            .unwrap()
            .map(|entry| entry.unwrap());
        let mut files: Vec<_> = entries
            .map(|entry| (name(&entry.path()), fs::read(entry.path()).unwrap()))
            .collect();
        files.sort();
        files
    }

    fn disk(&self, to: &str) -> Vec<u8> {
        let mut files = self.draft(to).into_iter();
        let disk = files.find(|(name, _)| name.ends_with(".raw"));
        disk.expect("a draft has a disk").1
    }

    /// Adds a file to the recipe, and locks it.
    fn add_file(&self, text: &str) {
        let path = self.path("recipe/recipe.toml");
        let before = fs::read_to_string(minimal().recipe.join("recipe.toml")).unwrap();
        let file = format!("\n[[file]]\npath = \"/etc/greeting\"\ncontent = \"{text}\"\n");
        fs::write(path, before + &file).unwrap();
        let mut locked = minimal().baker.command(["lock", "recipe"]);
        let locked = locked.current_dir(self.folder.path()).output().unwrap();
        assert_eq!(said(&locked).code, Some(0), "{locked:?}");
    }

    /// Changes one byte in the middle of every book of a kind; gives how many there are.
    fn damage(&self, kind: &str) -> usize {
        let books = fs::read_dir(self.path("store/stages")).unwrap();
        let books: Vec<PathBuf> = books
            .map(|entry| entry.unwrap().path())
            .filter(|path| name(path).starts_with(kind))
            .collect();
        for book in &books {
            let file = fs::OpenOptions::new()
                .read(true)
                .write(true)
                .open(book)
                .unwrap();
            let middle = file.metadata().unwrap().len() / 3;
            let mut byte = [0];
            file.read_exact_at(&mut byte, middle).unwrap();
            file.write_all_at(&[byte[0] ^ 1], middle).unwrap();
        }
        books.len()
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// Stages by how they came by their results.
fn stages(explained: &Value, how: &str) -> Vec<String> {
    let stages = explained["stages"].as_array().unwrap().iter();
    let mut names: Vec<String> = stages
        .filter(|stage| stage["how"] == how)
        .map(|stage| stage["stage"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_bake_takes_over_what_has_not_changed() {
    let kitchen = Kitchen::new();
    let first = kitchen.bake("first", &[]);
    assert!(first["changed"].is_null(), "{first}");
    assert_eq!(stages(&first, "reused"), [""; 0]);

    let page = kitchen.path("timings.html");
    let second = kitchen.bake("second", &["--timings", page.to_str().unwrap()]);
    assert_eq!(
        second["changed"].as_array().map(Vec::len),
        Some(0),
        "{second}"
    );
    assert_eq!(stages(&second, "reused"), ["draft"]);
    assert_eq!(stages(&second, "done"), [""; 0]);
    assert!(kitchen.draft("first") == kitchen.draft("second"));
    assert!(fs::read_to_string(page).unwrap().contains(">draft<"));

    // Other words of the command line are another draft, of the same pieces.
    let formats = kitchen.bake("formats", &["--format", "qcow2"]);
    let changed = &formats["changed"];
    assert_eq!(changed[0], "forms of the disk changed", "{changed}");
    assert!(kitchen.disk("first") == kitchen.disk("formats"));

    kitchen.add_file("hello");
    let third = kitchen.bake("third", &[]);
    let changed = third["changed"].as_array().unwrap();
    assert!(
        changed.iter().any(|line| line == "recipe changed"),
        "{changed:?}"
    );
    let reused = stages(&third, "reused");
    for stage in ["assemble", "kernel"] {
        assert!(reused.contains(&stage.to_owned()), "{stage}: {third}");
    }
    assert!(kitchen.disk("first") != kitchen.disk("third"));
    let anew = kitchen.bake("anew", &["--anew"]);
    assert_eq!(stages(&anew, "reused"), [""; 0]);
    assert!(kitchen.draft("third") == kitchen.draft("anew"));
}

#[test]
fn what_is_kept_and_damaged_is_made_again_or_named() {
    let kitchen = Kitchen::new();
    kitchen.bake("first", &[]);
    let disk = kitchen.disk("first");
    for kind in ["draft-", "packed-", "initrd-"] {
        assert!(kitchen.damage(kind) > 0, "{kind}");
        if kind != "draft-" {
            // Else the draft would be all that is looked at.
            let mut stages = fs::read_dir(kitchen.path("store/stages")).unwrap();
            let draft =
                stages.find(|entry| name(&entry.as_ref().unwrap().path()).starts_with("draft-"));
            fs::remove_file(draft.unwrap().unwrap().path()).unwrap();
        }
        let explained = kitchen.bake(kind, &[]);
        assert!(
            stages(&explained, "done").contains(&"image".to_owned()),
            "{explained}"
        );
        assert!(kitchen.disk(kind) == disk, "{kind}");
    }
    kitchen.damage("draft-");
    assert!(kitchen.damage("unpacked-") > 30);
    let said = kitchen.run(&["bake", "recipe", "--to", "unpacked"]);
    said.assert(5, &["unpacked-", "in the store is altered", "remove it"]);
    assert_eq!(fs::read_dir(kitchen.path("unpacked")).unwrap().count(), 0);
    kitchen.bake("mended", &["--anew"]);
    assert!(kitchen.disk("mended") == disk);
    kitchen.bake("again", &[]);
    assert!(kitchen.disk("again") == disk);
}

#[test]
fn a_bake_may_open_more_files_than_a_shell_allows() {
    let kitchen = Kitchen::new();
    let mut command = kitchen.command(&[]);
    let environment: Vec<_> = command
        .get_envs()
        .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
        .collect();
    let script = "ulimit -S -n 48; exec \"$0\" bake recipe --to few";
    command = std::process::Command::new("sh");
    command
        .args(["-c", script])
        .arg(baker_tests::program::program())
        .env_clear()
        .envs(environment)
        .current_dir(kitchen.folder.path());
    said(&command.output().unwrap()).assert(0, &["assemble"]);
}

#[test]
fn bakers_at_the_same_time_share_one_store() {
    let kitchen = Kitchen::new();
    let start = |number: usize| {
        let to = format!("to-{number}");
        let mut command = kitchen.command(&["bake", "recipe", "--to", &to]);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let bakers: Vec<_> = (0..4).map(start).collect();
    for baker in bakers {
        let said = said(&baker.wait_with_output().unwrap());
        assert_eq!(said.code, Some(0), "{said:#?}");
    }
    let first = kitchen.draft("to-0");
    for number in 1..4 {
        assert!(kitchen.draft(&format!("to-{number}")) == first, "{number}");
    }
    assert_eq!(fs::read_dir(kitchen.path("store/tmp")).unwrap().count(), 0);
}
