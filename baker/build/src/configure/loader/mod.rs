//! The cache of the dynamic loader, `/etc/ld.so.cache`, and the links that `ldconfig` makes.
//!
//! Takes the libraries of the tree; leaves for each a link by its soname and a cache equal, byte
//! for byte, to what `ldconfig` of the tree's own glibc would write.

mod cache;
mod elf;
mod scan;

use super::error::ConfigureError;
use super::image::{Access, Image};
use crate::Package;

const EFFECT: &str = "loader-cache";

/// Makes the links and writes the cache.
pub(super) fn write_cache(
    image: &mut Image<'_>,
    packages: &[Package],
) -> Result<(), ConfigureError> {
    let libraries = scan::libraries(image)?;
    for (link, target) in &libraries.links {
        image.symlink(link, target, EFFECT)?;
    }
    if libraries.entries.is_empty() {
        return Ok(());
    }
    let bytes = cache::encode(libraries.entries, generator(packages).as_deref());
    image.write("/etc/ld.so.cache", bytes, Access::root(0o644), EFFECT)
}

/// How `ldconfig` of the glibc in the image signs its caches.
fn generator(packages: &[Package]) -> Option<String> {
    let libc = packages
        .iter()
        .find(|package| package.lock.name == "libc6")?;
    // A rebuild without source changes (+b1) does not change the program's own text.
    let version = match libc.lock.version.rsplit_once("+b") {
        Some((source, build)) if build.bytes().all(|byte| byte.is_ascii_digit()) => source,
        _ => &libc.lock.version,
    };
    let release = version.split('-').next().unwrap_or(version);
    Some(format!(
        "ldconfig (Debian GLIBC {version}) stable release version {release}"
    ))
}
