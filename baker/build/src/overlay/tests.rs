//! Recipes laid over small trees.

use std::sync::Mutex;

use baker_model::event::Event;
use baker_model::lock::FileLock;
use baker_model::tree::{Content, Kind, LinkGroup, Metadata, Node, Origin, TreePath};
use baker_model::{Digest, Listener, Lock, Recipe, Tree};

use super::*;
use crate::Spool;
use crate::assemble::fixture::{EPOCH, store};

const RECIPE: &str = "name = \"tiny\"\nversion = \"1.2.3\"\n[debian]\nsuite = \"trixie\"\n\
    packages = []\n[kernel]\npackage = \"linux\"\n";

fn path(text: &str) -> TreePath {
    TreePath::new(text).unwrap()
}

fn add(tree: &mut Tree, at: &str, kind: Kind) {
    let node = Node {
        metadata: Metadata::of_root(0o755, 7),
        kind,
        origin: Origin::Implied,
    };
    tree.ensure_parents(&path(at), 7).unwrap();
    tree.insert(path(at), node).unwrap();
}

fn small_tree() -> Tree {
    let mut tree = Tree::new(7);
    let text = |text: &str| Kind::file(Content::inline(text));
    add(
        &mut tree,
        "etc/passwd",
        text("root:x:0:0::/:/x\nweb:x:33:44::/:/x\n"),
    );
    add(&mut tree, "etc/group", text("root:x:0:\nwww:x:55:\n"));
    add(
        &mut tree,
        "usr/lib/os-release",
        text("ID=debian\nNAME=\"Debian\"\n"),
    );
    add(
        &mut tree,
        "etc/os-release",
        Kind::Symlink {
            target: b"../usr/lib/os-release".to_vec(),
        },
    );
    add(
        &mut tree,
        "bin",
        Kind::Symlink {
            target: b"usr/bin".to_vec(),
        },
    );
    tree
}

fn text(tree: &Tree, at: &str) -> String {
    match tree.get(&path(at)).map(|node| &node.kind) {
        Some(Kind::File {
            content: Content::Inline(bytes),
            ..
        }) => String::from_utf8(bytes.to_vec()).unwrap(),
        other => panic!("{at} is {other:?}"),
    }
}

/// The tree with `more` of a recipe laid over it; `local` is the file `files/local` beside it.
fn laid(more: &str, local: &str, change: impl FnOnce(&mut Lock)) -> Result<Tree, OverlayError> {
    let recipe = Recipe::parse(&format!("{RECIPE}{more}")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("files")).unwrap();
    std::fs::write(folder.path().join("files/local"), local).unwrap();
    let (mut lock, _) = store(&[]);
    lock.files.push(FileLock {
        path: "files/local".to_owned(),
        size: 5,
        sha256: Digest::of(b"local"),
    });
    change(&mut lock);
    let spool = Spool::new(folder.path()).unwrap();
    let mut tree = small_tree();
    identity(&mut tree, &recipe, &spool, EPOCH)?;
    let request = Request {
        recipe: &recipe,
        lock: &lock,
        locate: &|name| folder.path().join(name),
        stored: &|_| folder.path().join("store"),
        spool: &spool,
    };
    files(&mut tree, request)?;
    Ok(tree)
}

#[test]
fn large_local_files_are_lent_by_the_store() {
    let more = "[[file]]\npath = \"/srv/large\"\nsource = \"files/large\"\n";
    let recipe = Recipe::parse(&format!("{RECIPE}{more}")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let large = [7; 10_000];
    let stored = folder.path().join("store");
    std::fs::write(&stored, large).unwrap();
    let (mut lock, _) = store(&[]);
    lock.files.push(FileLock {
        path: "files/large".to_owned(),
        size: 10_000,
        sha256: Digest::of(&large),
    });
    let spool = Spool::new(folder.path()).unwrap();
    let lay = || -> Result<Content, OverlayError> {
        let mut tree = small_tree();
        let request = Request {
            recipe: &recipe,
            lock: &lock,
            // It is not there: nobody looks.
            locate: &|name| folder.path().join(name),
            stored: &|_| stored.clone(),
            spool: &spool,
        };
        files(&mut tree, request)?;
        match tree.get(&path("srv/large")).map(|node| &node.kind) {
            Some(Kind::File { content, .. }) => Ok(content.clone()),
            other => panic!("{other:?}"),
        }
    };
    let content = lay().unwrap();
    assert_eq!(spool.read(&content).unwrap(), large);
    assert_eq!(spool.source(&content.digest()), Some(Digest::of(&large)));
    // What cannot be it is not taken.
    std::fs::write(&stored, [7; 9_999]).unwrap();
    assert!(matches!(lay(), Err(OverlayError::Local { .. })));
}

#[test]
fn entries_get_owner_mode_and_time() {
    let more = "[[directory]]\npath = \"/srv/www\"\nmode = \"2775\"\nowner = \"web\"\n\
        group = \"www\"\n[[file]]\npath = \"/srv/www/a/index\"\nsource = \"files/local\"\n\
        owner = \"1000\"\n[[file]]\npath = \"/bin/tool\"\ncontent = \"x\"\nmode = \"0755\"\n\
        [[link]]\npath = \"/etc/os-release\"\ntarget = \"else\"\n";
    let tree = laid(more, "local", |_| ()).unwrap();
    let at = |text| &tree.get(&path(text)).unwrap().metadata;
    let directory = at("srv/www");
    assert_eq!(
        (directory.mode, directory.uid, directory.gid),
        (0o2775, 33, 55)
    );
    assert_eq!((directory.mtime, at("srv/www/a").mtime), (EPOCH, EPOCH));
    assert_eq!(
        (at("srv/www/a/index").uid, at("srv/www/a/index").gid),
        (1000, 0)
    );
    assert_eq!(text(&tree, "srv/www/a/index"), "local");
    assert_eq!(text(&tree, "usr/bin/tool"), "x");
    let link = &tree.get(&path("etc/os-release")).unwrap().kind;
    assert_eq!(
        *link,
        Kind::Symlink {
            target: b"else".to_vec()
        },
        "the link is replaced"
    );
}

#[test]
fn the_image_knows_its_name() {
    let tree = laid("[os-release]\nNAME = \"My $OS\"\n", "local", |_| ()).unwrap();
    let expected = "ID=debian\nNAME=\"My \\$OS\"\nIMAGE_ID=tiny\nIMAGE_VERSION=1.2.3\n";
    assert_eq!(text(&tree, "usr/lib/os-release"), expected);
    assert_eq!(text(&tree, "etc/hostname"), "tiny\n");
    assert!(text(&tree, "etc/hosts").contains("127.0.1.1\ttiny\n"));
    assert!(matches!(
        tree.get(&path("etc/os-release")).unwrap().kind,
        Kind::Symlink { .. }
    ));
    let bad = laid("[os-release]\nname = \"x\"\n", "local", |_| ()).unwrap_err();
    assert!(bad.to_string().contains("only A-Z"), "{bad}");
    let bad = laid("[system]\nhost-name = \"a b\"\n", "local", |_| ()).unwrap_err();
    assert!(bad.to_string().contains("no host name"), "{bad}");
}

#[test]
fn wrong_local_files_and_owners_are_named() {
    let entry = "[[file]]\npath = \"/x\"\nsource = \"files/local\"\n";
    let rows = [
        (
            laid(entry, "Local", |_| ()),
            "files/local is not what the lock names",
            "`baker lock`",
        ),
        (
            laid(entry, "longer than that", |_| ()),
            "found 16 bytes",
            "`baker lock`",
        ),
        (
            laid(entry, "local", |lock| lock.files.clear()),
            "does not name",
            "`baker lock`",
        ),
        (
            laid(
                "[[file]]\npath = \"/x\"\nsource = \"none\"\n",
                "local",
                |lock| {
                    lock.files[0].path = "none".to_owned();
                },
            ),
            "cannot read the local file",
            "bring the file back",
        ),
        (
            laid(
                "[[directory]]\npath = \"/x\"\ngroup = \"web\"\n",
                "local",
                |_| (),
            ),
            "cannot add /x: the image has no group `web`",
            "[[group]]",
        ),
        (
            laid(
                "[[file]]\npath = \"/etc/passwd/x\"\ncontent = \"\"\n",
                "local",
                |_| (),
            ),
            "/etc/passwd above it is no directory",
            "",
        ),
        (
            laid(
                "[[file]]\npath = \"/etc\"\ncontent = \"\"\n",
                "local",
                |_| (),
            ),
            "add /etc",
            "",
        ),
    ];
    for (result, words, mend) in rows {
        let error = result.expect_err(words);
        assert!(error.to_string().contains(words), "{error} / {words}");
        assert!(error.hint().unwrap_or_default().contains(mend), "{error}");
    }
}

#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Listener for Heard {
    fn event(&self, event: Event) {
        if let Event::Warning { text, .. } = event {
            self.0.lock().unwrap().push(text);
        }
    }
}

#[test]
fn what_is_excluded_goes_and_the_rest_stays_whole() {
    let mut tree = Tree::new(0);
    let linked = |group| Kind::File {
        content: Content::inline("x"),
        link: Some(LinkGroup(group)),
    };
    add(&mut tree, "usr/share/doc/a/b", linked(0));
    add(&mut tree, "usr/bin/b", linked(0));
    add(&mut tree, "usr/lib/c", linked(1));
    add(&mut tree, "usr/lib/d", linked(1));
    add(&mut tree, "usr/empty", Kind::Directory);
    let heard = Heard::default();
    let patterns = [
        "/usr/share/doc/**",
        "/usr/lib",
        "/usr/nothing",
        "/usr/empty",
    ]
    .map(str::to_owned);
    assert_eq!(
        exclude(&mut tree, &patterns, "configure", &heard).unwrap(),
        3
    );
    assert!(tree.get(&path("usr/share/doc")).is_some());
    assert!(tree.get(&path("usr/share/doc/a")).is_none());
    assert!(tree.get(&path("usr/empty")).is_none());
    let link = |at| match tree.get(&path(at)).unwrap().kind {
        Kind::File { link, .. } => link,
        _ => panic!("{at}"),
    };
    assert_eq!(link("usr/bin/b"), None);
    assert_eq!(
        (link("usr/lib/c"), link("usr/lib/d")),
        (Some(LinkGroup(0)), Some(LinkGroup(0)))
    );
    let heard = heard.0.into_inner().unwrap();
    assert_eq!(heard.len(), 2, "{heard:?}");
    assert!(
        heard[0].contains("`/usr/lib` matches only directories"),
        "{heard:?}"
    );
    assert!(
        heard[1].contains("`/usr/nothing` matches nothing"),
        "{heard:?}"
    );
    let error = exclude(
        &mut tree,
        &["/[".to_owned()],
        "configure",
        &Heard::default(),
    );
    assert!(matches!(error, Err(OverlayError::Pattern { .. })));
}
