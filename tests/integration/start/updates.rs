//! Moving locked packages: all, some, or those with a security update; the archive in two states.

use std::path::PathBuf;

use baker_fetch::{Cause, Change, LockError, Moves, Updated};
use baker_model::lock::PackageRole;
use baker_model::{Lock, Recipe};
use baker_tests::archive::{DAY, Suite};
use baker_tests::deb::Deb;
use baker_tests::program::{Baker, Said, said};
use baker_tests::world::World;

/// A world with two suites, locked and fetched in its first state; `debian-security` lies in the
/// same folder as `debian`.
struct Shelf {
    world: World,
    recipe: Recipe,
    lock: Lock,
}

fn recipe_text(version: &str) -> String {
    format!(
        "name = \"tiny\"\nversion = \"{version}\"\n[debian]\nsuite = \"trixie\"\n\
         suites = [\"trixie\", \"trixie-security\"]\n\
         packages = [\"hello\", \"server\", \"tls\"]\n\
         [kernel]\npackage = \"linux-image-amd64\"\n"
    )
}

fn recipe(version: &str) -> Recipe {
    Recipe::parse(&recipe_text(version)).unwrap()
}

fn kernel(suite: Suite, version: &str) -> Suite {
    let image = format!("linux-image-{version}-amd64");
    suite
        .package(Deb::new("linux-image-amd64", version).depends(&format!("{image} (= {version})")))
        .package(Deb::new(&image, version).file("./boot/vmlinuz", 0o644, version))
}

fn main_suite() -> Suite {
    kernel(Suite::new("trixie"), "6.12")
        .package(Deb::new("systemd-boot-efi", "257"))
        .package(Deb::new("hello", "1.0").depends("libhello (>= 1)"))
        .package(Deb::new("libhello", "1.0"))
        .package(Deb::new("server", "1.0").depends("libserver (= 1.0)"))
        .package(Deb::new("libserver", "1.0").depends("libtls (>= 1)"))
        .package(Deb::new("tls", "1.0").depends("libtls (>= 1)"))
        .package(Deb::new("libtls", "1.0"))
}

/// The second state: everything is newer; `server` needs its own library and a newer `libtls`.
fn newer(suite: Suite) -> Suite {
    kernel(suite, "6.13")
        .package(Deb::new("systemd-boot-efi", "258"))
        .package(Deb::new("hello", "2.0").depends("libhello (>= 1)"))
        .package(Deb::new("libhello", "2.0"))
        .package(Deb::new("server", "2.0").depends("libserver (= 2.0), libnew"))
        .package(Deb::new("libserver", "2.0").depends("libtls (>= 2)"))
        .package(Deb::new("libnew", "1.0"))
        .package(Deb::new("tls", "2.0").depends("libtls (>= 1)"))
        .package(Deb::new("libtls", "2.0"))
}

fn dated(mut suite: Suite, days: i64) -> Suite {
    suite.date += days * DAY;
    suite.signed_at += days * DAY;
    suite.valid_until = suite.valid_until.map(|until| until + days * DAY);
    suite
}

impl Shelf {
    fn new() -> Self {
        let world = World::new().unwrap();
        world.publish(&main_suite()).unwrap();
        world.publish(&Suite::new("trixie-security")).unwrap();
        let recipe = recipe("1.0.0");
        let lock = world.lock(&recipe, None).unwrap();
        world.fetch(&lock).unwrap();
        Self {
            world,
            recipe,
            lock,
        }
    }

    /// A day later the archive is in another state.
    fn later(mut self, main: Suite, security: Suite) -> Self {
        self.world.publish(&dated(main, 1)).unwrap();
        self.world.publish(&dated(security, 1)).unwrap();
        self.world.now += DAY;
        self
    }

    fn update(&self, moves: Moves<'_>) -> Result<Updated, LockError> {
        let Self {
            world,
            recipe,
            lock,
        } = self;
        world.with_request(recipe, Some(lock), |request| {
            baker_fetch::update(request, moves)
        })
    }
}

fn named(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

/// `name old -> new in suites: why`, one a line.
fn lines(changes: &[Change]) -> Vec<String> {
    let line = |change: &Change| {
        let version = |version: &Option<String>| version.clone().unwrap_or("none".to_owned());
        format!(
            "{} {} -> {} in {:?}: {}",
            change.package,
            version(&change.from),
            version(&change.to),
            change.suites,
            change.cause
        )
    };
    changes.iter().map(line).collect()
}

fn version<'a>(lock: &'a Lock, name: &str) -> &'a str {
    let mut found = lock.packages.iter().filter(|package| package.name == name);
    found.next().map_or("none", |package| &package.version)
}

/// Two versions beside each other, as in a suite that keeps old ones.
fn both() -> Suite {
    newer(main_suite())
}

/// The new versions alone, as in a real archive.
fn only_newer() -> Suite {
    newer(Suite::new("trixie"))
}

#[test]
fn everything_moves_when_nothing_is_named() {
    let shelf = Shelf::new().later(only_newer(), Suite::new("trixie-security"));
    let updated = shelf.update(Moves::All).unwrap();
    assert_eq!(
        lines(&updated.changes),
        [
            "hello 1.0 -> 2.0 in [\"trixie\"]: newest of the archive",
            "libhello 1.0 -> 2.0 in [\"trixie\"]: newest of the archive",
            "libnew none -> 1.0 in [\"trixie\"]: needed by server Depends: libnew",
            "libserver 1.0 -> 2.0 in [\"trixie\"]: newest of the archive",
            "libtls 1.0 -> 2.0 in [\"trixie\"]: newest of the archive",
            "linux-image-6.13-amd64 6.12 -> 6.13 in [\"trixie\"]: newest of the archive",
            "server 1.0 -> 2.0 in [\"trixie\"]: newest of the archive",
            "systemd-boot-efi 257 -> 258 in [\"trixie\"]: newest of the archive",
            "tls 1.0 -> 2.0 in [\"trixie\"]: newest of the archive",
        ]
    );
    assert_eq!(updated.lock.archives.len(), 2);
}

/// The same whether the archive still lists the old versions or only the store has them.
#[test]
fn a_named_package_moves_with_what_it_forces_and_all_else_stays() {
    for (state, archives) in [(both(), 2), (only_newer(), 3)] {
        let shelf = Shelf::new().later(state, Suite::new("trixie-security"));
        let names = named(&["server"]);
        let updated = shelf.update(Moves::Named(&names)).unwrap();
        assert_eq!(
            lines(&updated.changes),
            [
                "libnew none -> 1.0 in [\"trixie\"]: needed by server Depends: libnew",
                "libserver 1.0 -> 2.0 in [\"trixie\"]: forced by server 2.0 Depends: libserver (= 2.0)",
                "libtls 1.0 -> 2.0 in [\"trixie\"]: forced by libserver 2.0 Depends: libtls (>= 2)",
                "server 1.0 -> 2.0 in [\"trixie\"]: named",
            ]
        );
        let lock = &updated.lock;
        for (name, kept) in [("hello", "1.0"), ("libhello", "1.0"), ("tls", "1.0")] {
            assert_eq!(version(lock, name), kept, "{name}");
        }
        assert_eq!(version(lock, "linux-image-6.12-amd64"), "6.12");
        assert_eq!(version(lock, "systemd-boot-efi"), "257");
        // The list that vouches for what only the store has stays in the lock.
        assert_eq!(lock.archives.len(), archives);
        shelf.world.fetch(lock).unwrap();
        // And the lock can be updated again from there.
        let again = Shelf {
            lock: updated.lock,
            ..shelf
        };
        let names = named(&["hello"]);
        let second = again.update(Moves::Named(&names)).unwrap();
        assert_eq!(
            lines(&second.changes),
            ["hello 1.0 -> 2.0 in [\"trixie\"]: named"]
        );
        assert_eq!(second.lock.archives.len(), archives);
    }
}

#[test]
fn a_library_that_moves_takes_its_exact_partner_along() {
    let shelf = Shelf::new().later(only_newer(), Suite::new("trixie-security"));
    let names = named(&["libserver"]);
    let updated = shelf.update(Moves::Named(&names)).unwrap();
    let moved: Vec<_> = updated
        .changes
        .iter()
        .map(|change| (change.package.as_str(), change.cause.clone()))
        .collect();
    let forced = |text: &str| Cause::Forced(text.to_owned());
    assert_eq!(
        moved,
        [
            (
                "libnew",
                Cause::NeededBy("server Depends: libnew".to_owned())
            ),
            ("libserver", Cause::Named),
            ("libtls", forced("libserver 2.0 Depends: libtls (>= 2)")),
            ("server", forced("server 1.0 Depends: libserver (= 1.0)")),
        ]
    );
}

#[test]
fn a_package_that_breaks_another_takes_it_along() {
    let main = only_newer().package(Deb::new("libtls", "2.0").field("Breaks", "libhello (<< 2)"));
    let shelf = Shelf::new().later(main, Suite::new("trixie-security"));
    let names = named(&["libtls"]);
    let updated = shelf.update(Moves::Named(&names)).unwrap();
    assert_eq!(
        lines(&updated.changes),
        [
            "libhello 1.0 -> 2.0 in [\"trixie\"]: forced by libtls 2.0 Breaks: libhello (<< 2)",
            "libtls 1.0 -> 2.0 in [\"trixie\"]: named",
        ]
    );
}

#[test]
fn only_security_updates_move_and_only_to_their_version() {
    let security = kernel(Suite::new("trixie-security"), "6.12.1")
        .package(Deb::new("libtls", "1.0+fix1"))
        .package(Deb::new("libserver", "0.9"))
        .package(Deb::new("stranger", "3"));
    let shelf = Shelf::new().later(both(), security);
    let updated = shelf.update(Moves::Security(&[])).unwrap();
    assert_eq!(
        lines(&updated.changes),
        [
            "libtls 1.0 -> 1.0+fix1 in [\"trixie-security\"]: security update",
            "linux-image-6.12.1-amd64 6.12 -> 6.12.1 in [\"trixie-security\"]: security update",
        ]
    );
    let changed = &updated.changes[1];
    assert_eq!(changed.role, PackageRole::Kernel);
    let names = named(&["libtls"]);
    let updated = shelf.update(Moves::Security(&names)).unwrap();
    assert_eq!(
        lines(&updated.changes),
        ["libtls 1.0 -> 1.0+fix1 in [\"trixie-security\"]: security update"]
    );
}

#[test]
fn a_lock_in_which_nothing_moves_keeps_its_bytes() {
    let shelf = Shelf::new().later(both(), Suite::new("trixie-security"));
    let updated = shelf.update(Moves::Security(&[])).unwrap();
    assert_eq!(updated.changes, []);
    assert_eq!(updated.lock, shelf.lock);
    // An edited recipe is no reason to move either.
    let edited = Shelf {
        recipe: recipe("1.0.1"),
        ..shelf
    };
    let updated = edited.update(Moves::Security(&[])).unwrap();
    assert_eq!(updated.changes, []);
    assert_ne!(updated.lock.recipe, edited.lock.recipe);
}

#[test]
fn a_version_that_nobody_has_any_more_moves_and_says_so() {
    let shelf = Shelf::new().later(only_newer(), Suite::new("trixie-security"));
    let tls = shelf
        .lock
        .packages
        .iter()
        .find(|p| p.name == "tls")
        .unwrap();
    std::fs::remove_file(shelf.world.store.path(&tls.sha256)).unwrap();
    let updated = shelf.update(Moves::Security(&[])).unwrap();
    assert_eq!(
        lines(&updated.changes),
        [
            "tls 1.0 -> 2.0 in [\"trixie\"]: its old version is neither in the archive nor in the store"
        ]
    );
}

#[test]
fn a_misspelt_package_is_refused() {
    let shelf = Shelf::new().later(both(), Suite::new("trixie-security"));
    let names = named(&["sever"]);
    let refused = shelf.update(Moves::Named(&names)).unwrap_err();
    assert_eq!(refused.to_string(), "package `sever` is not in the lock");
}

/// The same by the program: the diff on standard output, nothing written by a dry run.
#[test]
fn the_program_shows_what_an_update_changes_and_a_dry_run_writes_nothing() {
    let shelf = Shelf::new();
    let tiny = Tiny::new(&shelf);
    tiny.run(&["lock", "tiny"]).assert(0, &[]);
    let lock = || std::fs::read(tiny.recipe().join("recipe.lock")).unwrap();
    let first = lock();
    let shelf = shelf.later(both(), Suite::new("trixie-security"));
    let dry = tiny.run(&["lock", "tiny", "--update", "libhello", "--dry-run"]);
    assert_eq!(
        dry.stdout,
        "tiny/recipe.lock: 8 packages, not written\n  libhello 1.0 -> 2.0 in trixie (named)\n"
    );
    assert_eq!(lock(), first, "a dry run wrote");
    let json = tiny.run(&["lock", "--json", "--update", "tiny", "libhello"]);
    let answer: serde_json::Value =
        serde_json::from_str(json.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(
        answer,
        serde_json::json!({
            "lock": "tiny/recipe.lock",
            "written": true,
            "changes": [{
                "package": "libhello", "role": "root", "was": null, "from": "1.0", "to": "2.0",
                "suites": ["trixie"], "why": "named",
            }],
        })
    );
    assert_ne!(lock(), first);
    let none = tiny.run(&["lock", "tiny", "--security-only"]);
    assert_eq!(none.stdout, "tiny/recipe.lock is unchanged\n");
    let rows: [(&[&str], i32, &str); 4] = [
        (&["tiny", "libhello"], 2, "--update"),
        (&["tiny", "--dry-run"], 2, "--update"),
        (&["tiny", "--update", "--refresh"], 2, "--refresh"),
        (
            &["tiny", "--update", "libhelo"],
            4,
            "package `libhelo` is not in the lock",
        ),
    ];
    for (args, code, words) in rows {
        let args: Vec<_> = ["lock"].into_iter().chain(args.iter().copied()).collect();
        tiny.run(&args).assert(code, &[words]);
    }
    std::fs::remove_file(tiny.recipe().join("recipe.lock")).unwrap();
    tiny.run(&["lock", "tiny", "--update"]).assert(
        4,
        &[
            "there is no tiny/recipe.lock to update",
            "run: baker lock tiny",
        ],
    );
    drop(shelf);
}

/// A program that knows the archive of a shelf, and the recipe in a folder.
struct Tiny {
    baker: Baker,
    archive: PathBuf,
    keyring: PathBuf,
}

impl Tiny {
    fn new(shelf: &Shelf) -> Self {
        let baker = Baker::new();
        let recipe = baker.home().join("tiny");
        std::fs::create_dir(&recipe).unwrap();
        std::fs::write(recipe.join("recipe.toml"), recipe_text("1.0.0")).unwrap();
        Self {
            baker,
            archive: shelf.world.archive(),
            keyring: shelf.world.keyring(),
        }
    }

    fn recipe(&self) -> PathBuf {
        self.baker.home().join("tiny")
    }

    fn run(&self, args: &[&str]) -> Said {
        let mut command = self.baker.command(args);
        command
            .env("BAKER_MIRROR", format!("file:{}", self.archive.display()))
            .env("BAKER_KEYRING", &self.keyring)
            .env("BAKER_ALLOW_EXPIRED", "true");
        said(&command.output().unwrap())
    }
}
