//! EROFS, through baker's own reader.

use std::io::{self, Write};

use baker_model::tree::TreePath;

use super::{Entry, Files, Opened};
use crate::erofs::Image;
use crate::io::Part;

struct Erofs(Part);

pub(super) fn open(part: Part) -> Opened {
    let entries = Image::open(&part)?.list()?;
    Ok((entries, Box::new(Erofs(part))))
}

impl Files for Erofs {
    fn copy(&self, _: &TreePath, entry: &Entry, out: &mut dyn Write) -> io::Result<()> {
        let image = Image::open(&self.0).map_err(io::Error::other)?;
        image.copy(entry.number, entry.size(), out)
    }
}
