//! Many entries, many bytes.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};

use baker_model::tree::{Content, Contents, Kind, NoContents, Node, Origin, TreePath};
use baker_model::{Digest, Interrupt, Tree};

use super::super::read::{FileMap, Image, Window};
use super::super::{Compression, Request, Summary, read, write};
use super::fixtures::{Builder, COMPRESSIONS, image, noise, normal, options, plain};
use super::judges::check;

const SIZE: u64 = (5 << 30) + 12_345;
/// Where bytes other than zero lie, 10 000 each.
const ISLANDS: [u64; 4] = [4_000_000, (4 << 30) - 5000, 4 << 30 | 7, SIZE - 10_000];

/// Mostly zeros.
struct Sparse(Vec<u8>);

impl Contents for Sparse {
    fn read_exact_at(&self, _: &Digest, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        buffer.fill(0);
        let end = offset + buffer.len() as u64;
        for island in ISLANDS {
            let (from, to) = (island.max(offset), (island + 10_000).min(end));
            if from < to {
                let place = |at: u64, base: u64| usize::try_from(at - base).unwrap();
                buffer[place(from, offset)..place(to, offset)]
                    .copy_from_slice(&self.0[place(from, island)..place(to, island)]);
            }
        }
        Ok(())
    }
}

fn write_sparse(compression: Compression, contents: &Sparse, out: &mut File) -> Summary {
    let mut tree = Tree::new(0);
    let content = Content::Extern {
        digest: Digest::of(b"sparse"),
        size: SIZE,
    };
    let node = Node {
        metadata: plain(0o644),
        kind: Kind::file(content),
        origin: Origin::Recipe,
    };
    tree.insert(TreePath::new("sparse").unwrap(), node).unwrap();
    let (interrupt, progress) = (Interrupt::new(), |_: u64| {});
    let options = options(compression, 2);
    let request = Request {
        tree: &tree,
        contents,
        parcels: None,
        first: &[],
        options: &options,
        interrupt: &interrupt,
        progress: &progress,
    };
    write(&request, out).unwrap()
}

#[test]
fn five_gibibytes_of_little_cost_little() {
    let contents = Sparse(noise(10_000, 1));
    // LZ4 shrinks zeros 255-fold and no further.
    let limits = [3 << 20, 32 << 20, 10 << 20];
    for (compression, limit) in COMPRESSIONS.into_iter().zip(limits) {
        let mut out = tempfile::NamedTempFile::new().unwrap();
        let summary = write_sparse(compression, &contents, out.as_file_mut());
        assert!(summary.size < limit, "{compression:?} {summary:?}");
        out.as_file_mut().seek(SeekFrom::Start(0)).unwrap();
        let image = Image::open(out.as_file()).unwrap();
        let mut nid = 0;
        image
            .entries(image.root(), &mut |_, child| nid = child)
            .unwrap();
        let map = FileMap::open(&image, nid).unwrap();
        let mut window = Window::default();
        for at in ISLANDS
            .iter()
            .flat_map(|at| [at - 9000, at + 500])
            .chain([0, SIZE / 2])
        {
            let length = usize::try_from((SIZE - at).min(20_000)).unwrap();
            let (mut found, mut expected) = (vec![1; length], vec![2; length]);
            map.read(&image, &mut window, at, &mut found).unwrap();
            contents
                .read_exact_at(&Digest::of(b""), at, &mut expected)
                .unwrap();
            assert!(found == expected, "{compression:?} at {at}");
        }
        check(out.path(), compression);
    }
}

#[test]
fn a_directory_holds_a_hundred_thousand_names() {
    let mut built = Builder::new();
    for n in 0..100_000 {
        let name = format!("d/{}{n}", if n % 3 == 0 { "-" } else { "entry." });
        built.add(&name, plain(0o644), Kind::file(Content::inline("")));
    }
    let (bytes, summary) = image(&built, &options(Compression::None, 1)).unwrap();
    assert_eq!(summary.inodes, 100_002);
    let (tree, _) = read(&bytes).unwrap();
    assert!(tree == normal(&built.tree));
    let out = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(out.path(), &bytes).unwrap();
    check(out.path(), Compression::None);
    let none: &dyn Contents = &NoContents;
    assert!(none.read_exact_at(&Digest::of(b""), 0, &mut []).is_err());
}
