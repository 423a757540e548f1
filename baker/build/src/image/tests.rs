//! Images of trees whose data was packed before.

use std::fs;
use std::sync::{Arc, Mutex};

use baker_model::Tree;
use baker_model::recipe::Recipe;
use baker_model::tree::{Content, Kind, Metadata, Node, Origin, TreePath};

use super::*;
use crate::spool::Lender;

const RECIPE: &str = "name = \"tiny\"\nversion = \"1.0.0\"\n[debian]\nsuite = \"trixie\"\n\
    packages = []\n[kernel]\npackage = \"linux\"\n";

/// A tree of the bytes of two inputs, and a spool that has them from there.
fn tree(folder: &Path, inputs: &[&[u8]]) -> (Tree, Spool) {
    let spool = Spool::new(folder).unwrap();
    let mut tree = Tree::new(0);
    for (number, bytes) in inputs.iter().enumerate() {
        let path = folder.join(format!("input-{number}"));
        fs::write(&path, bytes).unwrap();
        let (digest, size) = (Digest::of(bytes), bytes.len() as u64);
        let lender = Arc::new(Lender {
            file: File::open(&path).unwrap(),
            path,
            source: Digest::of(&[number.try_into().unwrap()]),
        });
        spool.lend(&lender, [(digest, 0, size)].into_iter());
        let node = Node {
            metadata: Metadata::of_root(0o644, 0),
            kind: Kind::file(Content::Extern { digest, size }),
            origin: Origin::Recipe,
        };
        let name = TreePath::new(format!("file-{number}")).unwrap();
        tree.insert(name, node).unwrap();
    }
    (tree, spool)
}

/// What the stage says at its end.
#[derive(Default)]
struct Heard(Mutex<String>);

impl Listener for Heard {
    fn event(&self, event: Event) {
        if let Event::Finished { how, summary, .. } = event {
            *self.0.lock().unwrap() = format!("{how:?}: {summary}");
        }
    }
}

fn made((tree, spool): &(Tree, Spool), keep: Option<&Keep>, root: &str, heard: &Heard) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("image");
    let recipe = Recipe::parse(&format!("{RECIPE}{root}")).unwrap();
    image(Request {
        tree,
        contents: spool,
        keep,
        root: &recipe.root,
        lock: &Digest::of(b"lock"),
        epoch: 0,
        threads: NonZeroUsize::MIN,
        out: &out,
        listener: heard,
        interrupt: &Interrupt::new(),
    })
    .unwrap();
    fs::read(out).unwrap()
}

#[test]
fn data_is_packed_once_for_every_way_to_pack_it() {
    let folder = tempfile::tempdir().unwrap();
    let keep = Keep::new(folder.path().to_owned(), folder.path().to_owned(), false);
    let text = "all work and no play ".repeat(40_000);
    let noise: Vec<u8> = (0..1_000u32)
        .flat_map(|number| *Digest::of(&number.to_le_bytes()).as_bytes())
        .collect();
    let one = tree(folder.path(), &[text.as_bytes(), &noise]);
    let heard = Heard::default();
    let said = || heard.0.lock().unwrap().clone();
    let plain = made(&one, None, "", &heard);
    assert_eq!(made(&one, Some(&keep), "", &heard), plain);
    assert!(said().starts_with("Done"), "{}", said());
    assert_eq!(made(&one, Some(&keep), "", &heard), plain);
    assert!(said().starts_with("Reused"), "{}", said());
    // Another level is other data, and so are other clusters.
    for other in ["level = 3", "cluster-size = 65536"] {
        let other = format!("[root]\n{other}\n");
        assert_eq!(
            made(&one, Some(&keep), &other, &heard),
            made(&one, None, &other, &Heard::default())
        );
        assert!(said().starts_with("Done"), "{}", said());
    }
    // What is the default anyway changes nothing.
    let same = "[root]\nlevel = 9\ncluster-size = 16384\n";
    assert_eq!(made(&one, Some(&keep), same, &heard), plain);
    assert!(said().starts_with("Reused"), "{}", said());
    // A third file is packed, the others are not.
    let more = text.replace("play", "fun");
    let two = tree(folder.path(), &[text.as_bytes(), &noise, more.as_bytes()]);
    let plain = made(&two, None, "", &Heard::default());
    assert_eq!(made(&two, Some(&keep), "", &heard), plain);
    assert!(
        said().ends_with("2 of 3 pieces were packed before"),
        "{}",
        said()
    );

    // Parcels that are damaged are made again.
    for entry in fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("packed-") {
            let mut bytes = fs::read(&path).unwrap();
            bytes[0] ^= 0xff;
            fs::write(&path, bytes).unwrap();
        }
    }
    assert_eq!(made(&two, Some(&keep), "", &heard), plain);
    assert!(said().starts_with("Done"), "{}", said());
    assert_eq!(made(&two, Some(&keep), "", &heard), plain);
    assert!(said().starts_with("Reused"), "{}", said());
}
