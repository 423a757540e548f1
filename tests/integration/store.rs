//! `baker store`: what the store holds, and what may go.

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use baker_model::Digest;
use baker_tests::program::Baker;
use serde_json::Value;

const DAY: Duration = Duration::from_secs(86_400);

/// A store with these objects, each so many days unused.
fn stocked(objects: &[(&str, u32)]) -> (Baker, Vec<PathBuf>) {
    let baker = Baker::new();
    let store = baker_fetch::Store::open(baker.store()).unwrap();
    let put = |(text, days): &(&str, u32)| {
        let path = store.path(&store.put_bytes(text.as_bytes()).unwrap());
        let used = SystemTime::now() - DAY * *days;
        File::open(&path).unwrap().set_modified(used).unwrap();
        path
    };
    let paths = objects.iter().map(put).collect();
    (baker, paths)
}

fn json(baker: &Baker, args: &[&str]) -> Value {
    let said = baker.ok([&["--json", "store"], args].concat());
    serde_json::from_str(&said.stdout).unwrap()
}

#[test]
fn what_the_store_holds_is_shown() {
    let (baker, paths) = stocked(&[("one", 1), ("two", 2)]);
    fs::write(baker.store().join("stages/scripts-1.json"), "{}").unwrap();
    let usage = json(&baker, &["usage"]);
    assert_eq!(usage["entries"], 3);
    assert_eq!(usage["kinds"]["object"]["entries"], 2);
    assert_eq!(usage["kinds"]["scripts"]["entries"], 1);
    let list = json(&baker, &["list"]);
    let rows = list.as_array().unwrap();
    assert_eq!(rows.len(), 3);
    assert_eq!(
        (&rows[2]["kind"], &rows[2]["name"]),
        (&"scripts".into(), &"scripts-1.json".into())
    );
    let text = baker.ok(["store", "list"]).stdout;
    for path in paths {
        assert!(
            text.contains(path.file_name().unwrap().to_str().unwrap()),
            "{text}"
        );
    }
}

#[test]
fn gc_keeps_what_it_is_told_to_keep() {
    let (baker, paths) = stocked(&[("named", 50), ("new", 1), ("old", 50)]);
    let releases = baker.home().join("releases/1.0.0");
    fs::create_dir_all(&releases).unwrap();
    let lock = format!("sha256 = \"{}\"\n", Digest::of(b"named"));
    fs::write(releases.join("recipe.lock"), lock).unwrap();
    let root = baker.home().join("releases");
    let keep = [
        "gc",
        "--root",
        root.to_str().unwrap(),
        "--keep-newer-than",
        "2d",
    ];
    let pretended = json(&baker, &[&keep[..], &["--dry-run"]].concat());
    assert_eq!(pretended["removed"].as_array().unwrap().len(), 1);
    assert!(paths.iter().all(|path| path.exists()), "nothing is removed");
    let done = json(&baker, &keep);
    assert_eq!(done["removed"][0]["name"], Digest::of(b"old").to_string());
    assert_eq!((&done["kept"], &done["rooted"]), (&2.into(), &1.into()));
    let exist: Vec<bool> = paths.iter().map(|path| path.exists()).collect();
    assert_eq!(exist, [true, true, false]);
    let said = baker.ok(["store", "gc", "--max-size", "0K"]);
    assert!(said.stdout.contains("removed 2 entries"), "{}", said.stdout);
}

#[test]
fn gc_removes_nothing_when_it_is_not_told_what_to_keep() {
    let (baker, paths) = stocked(&[("old", 50)]);
    baker.run(["store", "gc"]).assert(2, &["--keep-newer-than"]);
    let empty = baker.home().join("empty");
    fs::create_dir_all(&empty).unwrap();
    for folder in [empty.as_path(), baker.home().join("misspelt").as_path()] {
        let folder = folder.to_str().unwrap();
        let said = baker.run(["store", "gc", "--root", folder]);
        said.assert(2, &[folder, "nothing was removed"]);
    }
    baker
        .run(["store", "gc", "--max-size", "20"])
        .assert(2, &["such as 20G"]);
    assert!(paths[0].exists());
}
