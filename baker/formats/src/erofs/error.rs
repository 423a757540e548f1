//! What can go wrong while an image is written or read.

use std::io;

use baker_model::tree::TreePath;

/// An image could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting lies outside of what the format or the codec takes.
    #[error("{option} is {found}, but must be {expected}")]
    Setting {
        /// Name of the field of [`Options`](super::Options).
        option: &'static str,
        /// What it was set to.
        found: i64,
        /// What is allowed.
        expected: &'static str,
    },
    /// The content of a file cannot be read.
    #[error("reading {path} at byte {offset} for the EROFS image")]
    Content {
        /// The file.
        path: TreePath,
        /// Where in the file.
        offset: u64,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The codec refused to work.
    #[error("compressing {path} at byte {offset} for the EROFS image")]
    Codec {
        /// The file.
        path: TreePath,
        /// Where in the file.
        offset: u64,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The image cannot be written to its place.
    #[error("writing the EROFS image at byte {offset}")]
    Output {
        /// Where in the image.
        offset: u64,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// An extended attribute has a name that EROFS cannot hold.
    #[error(
        "{path} has the extended attribute `{name}`, which EROFS cannot hold (it knows user., \
         trusted., security. and the two system.posix_acl_ names)"
    )]
    AttributeName {
        /// The node.
        path: TreePath,
        /// The attribute, lossily decoded.
        name: String,
    },
    /// The extended attributes of a node are too large for EROFS.
    #[error("the extended attributes of {path} need {size} bytes, but EROFS holds {limit}")]
    AttributeSize {
        /// The node.
        path: TreePath,
        /// Bytes needed by the value or by all attributes together.
        size: usize,
        /// Bytes possible.
        limit: usize,
    },
    /// Two names of one hard-linked file disagree about it.
    #[error("{path} and {other} are one hard-linked file, but differ in metadata or content")]
    LinkMismatch {
        /// A later name.
        path: TreePath,
        /// The first name.
        other: TreePath,
    },
    /// The image needs more blocks than 32-bit block numbers can name.
    #[error("the EROFS image grows beyond {limit} blocks of 4096 bytes at {path}")]
    TooLarge {
        /// The file at hand.
        path: TreePath,
        /// Blocks possible.
        limit: u64,
    },
    /// Somebody asked to stop.
    #[error("writing the EROFS image was interrupted")]
    Interrupted,
    /// A worker thread died; its panic has been reported by then.
    #[error("a worker thread of the EROFS writer died")]
    Worker,
}

/// An image could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The bytes of the image cannot be had.
    #[error("reading the EROFS image at byte {offset}")]
    Image {
        /// Where in the image.
        offset: u64,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A structure does not hold what it must.
    #[error("the EROFS image is damaged at byte {offset}: {what} is {found}, expected {expected}")]
    Damaged {
        /// Where in the image.
        offset: u64,
        /// The field or structure.
        what: &'static str,
        /// What it holds.
        found: u64,
        /// What it must hold.
        expected: String,
    },
    /// The image uses a feature that this reader does not know.
    #[error("the EROFS image uses {what} {found:#x}, which this reader does not know")]
    Unknown {
        /// The field.
        what: &'static str,
        /// Its value.
        found: u64,
    },
    /// Compressed data does not unpack.
    #[error("unpacking the compressed data at byte {offset} of the EROFS image")]
    Unpack {
        /// Where in the image.
        offset: u64,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A directory entry cannot be put into a tree.
    #[error("the directory {path} of the EROFS image has an impossible entry")]
    Entry {
        /// The directory.
        path: TreePath,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
