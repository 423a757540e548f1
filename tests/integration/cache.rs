//! What machines share: one makes it, others bring it, and nobody believes what no trusted key has
//! signed.

use std::fs;
use std::path::{Path, PathBuf};

use baker_tests::bakery::{Locked, copy_folder, minimal};
use baker_tests::cache_server::{CacheServer, Mood};
use baker_tests::program::{Said, said};
use serde_json::Value;

use crate::sandbox::small;

/// A recipe, keys, and machines with stores of their own that hold its packages.
struct Team {
    locked: &'static Locked,
    folder: tempfile::TempDir,
}

impl Team {
    fn new(locked: &'static Locked) -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy_folder(&locked.recipe, &folder.path().join("recipe"));
        let team = Self { locked, folder };
        for name in ["ours", "strange"] {
            let path = team.path(name);
            let words = ["key", "new", path.to_str().unwrap(), "--development"];
            locked.baker.ok(words);
        }
        team
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A machine that has fetched the packages, and made nothing of them yet.
    fn machine(&self, name: &'static str, cache: &str) -> Machine<'_> {
        let store = self.path(name).join("store");
        self.locked.copy_inputs(&store);
        Machine {
            team: self,
            name,
            store,
            cache: cache.to_owned(),
        }
    }
}

struct Machine<'a> {
    team: &'a Team,
    name: &'static str,
    store: PathBuf,
    cache: String,
}

impl Machine<'_> {
    fn run(&self, words: &[&str]) -> Said {
        let mut command = self.team.locked.baker.command(words);
        command
            .env("BAKER_STORE", &self.store)
            .env("BAKER_CACHE", &self.cache)
            .current_dir(self.team.folder.path());
        said(&command.output().unwrap())
    }

    /// What it answers, and what it says beside that.
    fn ok(&self, words: &[&str]) -> (Vec<Value>, Said) {
        let said = self.run(&[&["--json"], words].concat());
        assert_eq!(said.code, Some(0), "{said:#?}");
        let lines = said.stdout.lines();
        let lines = lines.map(|line| serde_json::from_str(line).unwrap());
        (lines.collect(), said)
    }

    fn share(&self, key: &str) -> Value {
        let (lines, _) = self.ok(&["store", "share", "recipe", "--cache-key", key]);
        lines.last().unwrap().clone()
    }

    /// What came from the cache, and the warnings.
    fn fetch(&self) -> (Value, Vec<String>) {
        let (lines, _) = self.ok(&["fetch", "recipe", "--cache-trust", "ours.pub"]);
        let warnings = lines.iter().filter(|line| line["event"] == "warning");
        let warnings = warnings.map(|line| line["text"].as_str().unwrap().to_owned());
        (lines.last().unwrap()["cache"].clone(), warnings.collect())
    }

    /// Bakes; gives what `--explain` says, and the disk.
    fn bake(&self) -> (Value, Vec<u8>) {
        let to = self.team.path(self.name).join("drafts");
        let words = ["bake", "recipe", "--explain", "--to", to.to_str().unwrap()];
        let (lines, _) = self.ok(&words);
        let mut lines = lines.into_iter();
        let explained = lines.find(|line| line["event"] == "explained");
        (explained.unwrap(), disk(&to))
    }
}

fn disk(drafts: &Path) -> Vec<u8> {
    let draft = fs::read_dir(drafts).unwrap().next().unwrap().unwrap();
    let mut files = fs::read_dir(draft.path()).unwrap();
    let disk = files.find(|file| {
        let name = file.as_ref().unwrap().file_name();
        name.to_string_lossy().ends_with(".raw")
    });
    fs::read(disk.unwrap().unwrap().path()).unwrap()
}

/// How a stage came by its result.
fn how<'a>(explained: &'a Value, stage: &str) -> Vec<&'a str> {
    let stages = explained["stages"].as_array().unwrap().iter();
    let stages = stages.filter(|it| it["stage"] == stage);
    stages.map(|it| it["how"].as_str().unwrap()).collect()
}

/// Pieces of the image that were packed in this bake. Those of files that a bake writes itself are
/// few, and are never kept.
fn packed_now(explained: &Value) -> u64 {
    let mut stages = explained["stages"].as_array().unwrap().iter();
    let image = stages.find(|it| it["stage"] == "image");
    let summary = image.unwrap()["summary"].as_str().unwrap();
    let numbers = summary.split(|it: char| !it.is_ascii_digit());
    let numbers: Vec<u64> = numbers.filter_map(|it| it.parse().ok()).collect();
    // 1457 nodes, 17200 KiB; 482 of 489 pieces were packed before
    match numbers[..] {
        [_, _, before, all] => all - before,
        _ => panic!("{summary}"),
    }
}

/// The blob with the most bytes.
fn largest(server: &CacheServer) -> String {
    let files = server.files();
    let blobs = files.iter().filter(|(path, _)| path.contains("/cas/"));
    let largest = blobs.max_by_key(|(_, bytes)| bytes.len());
    largest.unwrap().0.clone()
}

#[test]
fn what_one_machine_made_another_takes_over_byte_by_byte() {
    let team = Team::new(minimal());
    let server = CacheServer::start();
    let first = team.machine("first", &server.address());
    let (_, made) = first.bake();
    assert_eq!(server.take_log(), [""; 0], "a bake asks no cache");
    let shared = first.share("ours");
    let count = shared["shared"].as_u64().unwrap();
    assert!(count > 20 && shared["there"] == 0, "{shared}");
    let again = first.share("ours");
    assert_eq!(
        (&again["shared"], &again["there"]),
        (&0.into(), &count.into())
    );

    let second = team.machine("second", &server.address());
    let (brought, warnings) = second.fetch();
    assert_eq!(
        (&brought["brought"], &brought["refused"]),
        (&count.into(), &0.into())
    );
    assert_eq!(warnings, [""; 0]);
    drop(server.take_log());
    let (explained, disk) = second.bake();
    assert_eq!(server.take_log(), [""; 0], "a bake asks no cache");
    assert!(packed_now(&explained) < 20, "{explained}");
    assert_eq!(how(&explained, "initrd"), ["reused"], "{explained}");
    assert_eq!(how(&explained, "configure"), ["done"], "{explained}");
    assert!(disk == made);
    let (again, _) = second.fetch();
    assert_eq!(again["brought"], 0);
    assert_eq!(again["missing"], brought["missing"]);
}

#[test]
fn a_blob_that_was_altered_or_cut_is_refused_made_here_and_mended() {
    let team = Team::new(minimal());
    let server = CacheServer::start();
    let first = team.machine("first", &server.address());
    let (_, made) = first.bake();
    let count = first.share("ours")["shared"].as_u64().unwrap();
    let path = largest(&server);
    let middle = server.files()[&path].len() / 2;
    server.files().get_mut(&path).unwrap()[middle] ^= 1;

    let second = team.machine("second", &server.address());
    let (brought, warnings) = second.fetch();
    assert_eq!(
        (&brought["brought"], &brought["refused"]),
        (&(count - 1).into(), &1.into())
    );
    let digest = path.rsplit('/').next().unwrap();
    let [warning, mend] = &warnings[..] else {
        panic!("{warnings:?}");
    };
    for word in ["is refused", digest] {
        assert!(warning.contains(word), "{warning}");
    }
    assert!(mend.contains("store share --again"), "{mend}");
    let left = fs::read_dir(second.store.join("tmp")).unwrap();
    assert_eq!(left.count(), 0, "what came of it is gone");
    let (_, disk) = second.bake();
    assert!(disk == made);

    server.files().get_mut(&path).unwrap().truncate(middle);
    let cut = team.machine("cut", &server.address());
    let (brought, _) = cut.fetch();
    assert_eq!(brought["refused"], 1);
    let again = ["store", "share", "recipe", "--again", "--cache-key", "ours"];
    first.ok(&again);
    let third = team.machine("third", &server.address());
    let (brought, warnings) = third.fetch();
    assert_eq!((&brought["brought"], warnings.len()), (&count.into(), 0));
}

#[test]
fn what_a_stranger_signed_is_not_taken_and_is_replaced() {
    let team = Team::new(minimal());
    let server = CacheServer::start();
    let first = team.machine("first", &server.address());
    let (_, made) = first.bake();
    // The same work, another signature.
    let count = first.share("strange")["shared"].as_u64().unwrap();
    let second = team.machine("second", &server.address());
    let (brought, warnings) = second.fetch();
    assert_eq!(
        (&brought["brought"], &brought["refused"]),
        (&0.into(), &count.into())
    );
    let [told @ .., last] = &warnings[..] else {
        panic!("nothing is said");
    };
    let is_stranger = |it: &String| it.contains("0 trusted cache keys signed");
    let is_told = told.len() == 3 && told.iter().all(is_stranger);
    assert!(is_told, "{warnings:?}");
    let all = format!("{count} entries of {} are refused", server.address());
    assert!(last.contains(&all), "{last}");
    let stages = fs::read_dir(second.store.join("stages")).unwrap();
    assert_eq!(stages.count(), 0, "nothing of a stranger is in the store");
    let (explained, disk) = second.bake();
    assert_eq!(how(&explained, "initrd"), ["done"], "{explained}");
    assert!(disk == made);
    let shared = second.share("ours");
    assert_eq!(
        (&shared["shared"], &shared["replaced"]),
        (&count.into(), &count.into())
    );
}

#[test]
fn a_cache_that_is_down_is_told_once_and_left_alone() {
    let team = Team::new(minimal());
    let server = CacheServer::start();
    server.become_(Mood::Broken(500));
    let machine = team.machine("machine", &server.address());
    let (brought, warnings) = machine.fetch();
    assert_eq!(brought["brought"], 0);
    let [warning] = &warnings[..] else {
        panic!("{warnings:?}");
    };
    for word in [
        "going on without the cache",
        &machine.cache,
        "--cache PLACE",
    ] {
        assert!(warning.contains(word), "{warning}");
    }
    let share = ["store", "share", "recipe", "--cache-key", "ours"];
    let said = machine.run(&share);
    assert_eq!(said.code, Some(0), "it has nothing to share: {said:#?}");
    drop(machine.bake());
    let words = [
        "cannot share in",
        "the server answered 500",
        "--cache PLACE",
    ];
    machine.run(&share).assert(8, &words);
}

#[test]
fn a_release_brings_what_another_has_shared() {
    let team = Team::new(minimal());
    let server = CacheServer::start();
    let release = |name, more: &[&str]| {
        let machine = team.machine(name, &server.address());
        let fixed = [
            "release",
            "recipe",
            "--key",
            "strange",
            "--waive-tests",
            "of no interest",
        ];
        let keys = [
            "--cache-key",
            "ours",
            "--cache-trust",
            "ours.pub",
            "--to",
            name,
        ];
        let (lines, _) = machine.ok(&[&fixed, &keys, more].concat());
        let of_cache = |line: &&Value| line["stage"] == "cache" && line["event"] == "finished";
        let said = lines.iter().filter(of_cache);
        let said: Vec<String> = said.map(|line| line["summary"].to_string()).collect();
        said
    };
    let number = |said: &str| {
        let mut words = said.split(' ').skip(1);
        words.next().unwrap().parse::<u64>().unwrap()
    };
    let said = release("first", &[]);
    let [brought, shared] = &said[..] else {
        panic!("{said:?}");
    };
    assert!(brought.contains("brought 0 entries"), "{brought}");
    assert!(shared.contains("0 were there"), "{shared}");
    let (count, files) = (number(shared), server.files().len());
    assert!(count > 20, "{shared}");
    let said = release("second", &[]);
    assert_eq!((number(&said[0]), number(&said[1])), (count, 0), "{said:?}");
    let said = release("third", &["--anew"]);
    let [shared] = &said[..] else {
        panic!("what is made anew takes nothing over: {said:?}");
    };
    assert_eq!(number(shared), 0, "{shared}");
    assert_eq!(server.files().len(), files);
}

#[test]
fn a_cache_without_trust_or_key_is_refused() {
    let team = Team::new(minimal());
    let machine = team.machine("machine", "cache");
    let said = machine.run(&["fetch", "recipe"]);
    said.assert(2, &["nobody is trusted", "--cache-trust"]);
    let said = machine.run(&["store", "share", "recipe"]);
    said.assert(2, &["no key to sign", "--cache-key"]);
    let without = ["fetch", "recipe", "--cache", ""];
    assert_eq!(machine.run(&without).code, Some(0));
    let odd = [
        "fetch",
        "recipe",
        "--cache",
        "https://me:secret@cache.example",
    ];
    let said = machine.run(&odd);
    said.assert(2, &["must not hold a user or password"]);
    assert!(!said.stderr.contains("secret"), "{}", said.stderr);
    let config = team.path("config.toml");
    let text = "[cache]\nplace = \"cache\"\ntrust = [\"ours.pub\"]\nkey = \"ours\"\n";
    fs::write(config, text).unwrap();
    let words = ["--config", "config.toml", "fetch", "recipe"];
    let (lines, _) = machine.ok(&words);
    let brought = &lines.last().unwrap()["cache"];
    assert_eq!(brought["brought"], 0, "{brought}");
    assert!(brought["missing"].as_u64() > Some(20), "{brought}");
}

#[test]
fn what_scripts_left_is_brought_as_a_layer() {
    let team = Team::new(small());
    let first = team.machine("first", "cache");
    let (explained, made) = first.bake();
    assert_eq!(how(&explained, "scripts"), ["done"], "{explained}");
    let shared = first.share("ours");
    assert!(shared["shared"].as_u64() > Some(3), "{shared}");
    let second = team.machine("second", "cache");
    let (brought, warnings) = second.fetch();
    assert_eq!(
        (&brought["brought"], &warnings[..]),
        (&shared["shared"], &[][..])
    );
    let (explained, disk) = second.bake();
    assert_eq!(how(&explained, "scripts"), ["reused"], "{explained}");
    assert!(packed_now(&explained) < 20, "{explained}");
    assert!(disk == made);
}
