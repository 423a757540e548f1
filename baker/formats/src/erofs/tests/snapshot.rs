//! What the bytes are: a dump, pinned digests, the same for any number of threads.

use baker_model::Digest;
use baker_model::tree::{Content, Kind, Metadata, TreePath};

use super::super::{Compression, Options, Part, dump, pieces, read};
use super::fixtures::{Builder, COMPRESSIONS, image, normal, options, plain, prose, xattrs, zoo};

#[test]
fn a_small_image_reads_as_this_text() {
    let mut small = Builder::new();
    small.file("etc/motd", b"baked, not patched\n".to_vec());
    small.file("usr/text", vec![b'x'; 100_000]);
    small.add(
        "usr/link",
        plain(0o777),
        Kind::Symlink {
            target: b"text".to_vec(),
        },
    );
    small.add(
        "dev/null",
        plain(0o666),
        Kind::CharDevice { major: 1, minor: 3 },
    );
    let owned = Metadata {
        uid: 100_000,
        xattrs: xattrs(&[("user.a", b"b")]),
        ..plain(0o4755)
    };
    small.add("usr/tool", owned, Kind::file(Content::inline("#!")));
    let (bytes, summary) = image(&small, &options(Compression::Zstd { level: 3 }, 1)).unwrap();
    let expected = "\
erofs blocks 2 inodes 9 meta 1 root 1 compat 0x3 incompat 0x13 algorithms 0x8
/ nid 1 mode 040755 owner 0:0 links 5 size 72 mtime 1700000000 inline
/dev nid 9 mode 040755 owner 0:0 links 2 size 43 mtime 1700000000 inline
/dev/null nid 27 mode 020666 owner 0:0 links 1 size 0 mtime 1700000000 device 0x103
/etc nid 12 mode 040755 owner 0:0 links 2 size 43 mtime 1700000000 inline
/etc/motd nid 22 mode 100644 owner 0:0 links 1 size 19 mtime 1700000000 inline
/usr nid 5 mode 040755 owner 0:0 links 2 size 75 mtime 1700000000 inline
/usr/link nid 15 mode 120777 owner 0:0 links 1 size 4 mtime 1700000000 inline
/usr/text nid 17 mode 100644 owner 0:0 links 1 size 100000 mtime 1700000000 packed into 0 \
blocks (0 plain) and a tail of 22 bytes
/usr/tool nid 24 mode 104755 owner 100000:0 links 1 size 2 mtime 1700000000 inline user.a
";
    assert_eq!(dump(&bytes).unwrap(), expected);
    assert_eq!(
        (summary.size, summary.inodes, summary.data_bytes_in),
        (8192, 9, 100_021)
    );
}

/// The encoders are pinned by `Cargo.lock`; whoever updates them, or changes the layout, sees it
/// here.
#[test]
fn the_bytes_of_the_zoo_are_pinned() {
    let digests = COMPRESSIONS.map(|compression| {
        let (bytes, _) = image(&zoo(), &options(compression, 2)).unwrap();
        Digest::of(&bytes).short()
    });
    assert_eq!(digests, ["8420b415c771", "3cc425d9c7c0", "ce718893fd1d"]);
}

#[test]
fn the_tree_comes_back() {
    let zoo = zoo();
    for compression in COMPRESSIONS {
        for cluster_size in [4096, 65_536, 1 << 20] {
            let options = Options {
                cluster_size,
                ..options(compression, 2)
            };
            let (bytes, summary) = image(&zoo, &options).unwrap();
            let (tree, contents) = read(&bytes).unwrap();
            assert!(tree == normal(&zoo.tree), "{compression:?} {cluster_size}");
            assert_eq!(bytes.len() as u64, summary.size);
            let library = zoo
                .tree
                .walk()
                .find(|(path, _)| path.file_name() == b"library")
                .unwrap();
            let Kind::File { content, .. } = &library.1.kind else {
                panic!("a file")
            };
            let mut piece = vec![0; 70_000];
            let reader: &dyn baker_model::tree::Contents = &contents;
            reader
                .read_exact_at(&content.digest(), 1_000_000, &mut piece)
                .unwrap();
            assert_eq!(piece, prose(1_234_567, 3)[1_000_000..1_070_000]);
        }
    }
}

#[test]
fn the_number_of_threads_does_not_show() {
    let mut built = zoo();
    // More than two segments, so that threads really share a file.
    built.file("big", prose(9 << 20, 20));
    for compression in COMPRESSIONS {
        let (one, _) = image(&built, &options(compression, 1)).unwrap();
        for threads in [2, 8] {
            let (other, _) = image(&built, &options(compression, threads)).unwrap();
            assert!(one == other, "{compression:?} with {threads} threads");
        }
    }
}

#[test]
fn what_is_read_first_lies_first() {
    let mut built = zoo();
    // The last one is a directory: it has no data.
    let first = [
        "usr/lib/noise",
        "no/such/file",
        "usr/lib/library",
        "usr/lib/noise",
        "usr",
    ];
    built.first = first.map(|path| TreePath::new(path).unwrap()).to_vec();
    for compression in COMPRESSIONS {
        let (bytes, _) = image(&built, &options(compression, 1)).unwrap();
        let (other, _) = image(&built, &options(compression, 8)).unwrap();
        assert!(bytes == other, "{compression:?} with 8 threads");
        let (tree, _) = read(&bytes).unwrap();
        assert!(tree == normal(&zoo().tree), "{compression:?}");
        let pieces = pieces(&bytes).unwrap();
        let data = pieces.iter().filter(|piece| piece.part == Part::Data);
        let data: Vec<_> = data.map(|piece| piece.path.as_deref().unwrap()).collect();
        assert_eq!(
            data[..2],
            ["/usr/lib/noise", "/usr/lib/library"],
            "{compression:?}"
        );
        let mut rest = data[2..].to_vec();
        rest.sort_unstable();
        rest.dedup();
        assert_eq!(data[2..], rest, "{compression:?}: all others in tree order");
    }
}
