//! Paths inside a tree.

use std::fmt;
use std::sync::Arc;

/// The longest allowed path in bytes, as in the kernel (`PATH_MAX` less its NUL).
pub const PATH_LIMIT: usize = 4095;

/// The longest allowed path component in bytes (`NAME_MAX`).
pub const NAME_LIMIT: usize = 255;

/// An absolute, normalised path inside the tree, kept without its leading slash.
///
/// The root itself is the empty path. No component is empty, `.` or `..`, and none holds a NUL.
/// Order is by components (`a/b` sorts before `a-b`), so a directory is directly followed by
/// what is in it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TreePath(Arc<[u8]>);

/// The bytes cannot be a path inside a tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` is not a path inside a tree: {reason}")]
pub struct TreePathError {
    /// The refused path, lossily decoded.
    pub path: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl TreePath {
    /// The root directory.
    #[must_use]
    pub fn root() -> Self {
        Self(Arc::from(&[][..]))
    }

    /// Normalises `path`: a leading `/` or `./`, doubled and trailing slashes are dropped.
    ///
    /// # Errors
    /// A component is `..`, too long or holds a NUL, or the whole is too long.
    pub fn new(path: impl AsRef<[u8]>) -> Result<Self, TreePathError> {
        let path = path.as_ref();
        let refuse = |reason| TreePathError {
            path: String::from_utf8_lossy(path).into_owned(),
            reason,
        };
        let mut normal = Vec::with_capacity(path.len());
        for component in path.split(|&byte| byte == b'/') {
            match component {
                b"" | b"." => continue,
                b".." => return Err(refuse("it climbs out with `..`")),
                _ if component.contains(&0) => return Err(refuse("it holds a NUL byte")),
                _ if component.len() > NAME_LIMIT => {
                    return Err(refuse("a component is longer than 255 bytes"));
                }
                _ => {}
            }
            if !normal.is_empty() {
                normal.push(b'/');
            }
            normal.extend_from_slice(component);
        }
        if normal.len() > PATH_LIMIT {
            return Err(refuse("it is longer than 4095 bytes"));
        }
        Ok(Self(normal.into()))
    }

    /// The path without leading slash; empty for the root.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// True for the root directory.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The components from the root down; none for the root.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0
            .split(|&byte| byte == b'/')
            .filter(|component| !component.is_empty())
    }

    /// The last component; empty for the root.
    #[must_use]
    pub fn file_name(&self) -> &[u8] {
        self.0
            .rsplit(|&byte| byte == b'/')
            .next()
            .unwrap_or_default()
    }

    /// The directory that holds this; none for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let cut = self.0.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        Some(Self(self.0[..cut].into()))
    }

    /// This path with `below` (a relative or absolute path) appended.
    ///
    /// # Errors
    /// As [`TreePath::new`].
    pub fn join(&self, below: impl AsRef<[u8]>) -> Result<Self, TreePathError> {
        let mut whole = self.0.to_vec();
        whole.push(b'/');
        whole.extend_from_slice(below.as_ref());
        Self::new(whole)
    }

    /// True when `self` is `ancestor` or lies below it.
    #[must_use]
    pub fn is_below(&self, ancestor: &Self) -> bool {
        self.0
            .strip_prefix(ancestor.as_bytes())
            .is_some_and(|rest| ancestor.is_root() || rest.is_empty() || rest[0] == b'/')
    }
}

impl Ord for TreePath {
    /// Component by component, which is byte by byte with the separator before all others.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let mut pairs = self.0.iter().zip(other.0.iter());
        match pairs.find(|(one, other)| one != other) {
            None => self.0.len().cmp(&other.0.len()),
            Some((b'/', _)) => std::cmp::Ordering::Less,
            Some((_, b'/')) => std::cmp::Ordering::Greater,
            Some((one, other)) => one.cmp(other),
        }
    }
}

impl PartialOrd for TreePath {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TreePath({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> TreePath {
        TreePath::new(text).unwrap()
    }

    #[test]
    fn the_order_is_that_of_components() {
        let texts = [
            "", "a", "a/b", "a.b", "a-", "a/b/c", "ab", "b", "a/\u{1}", "a\u{1}", "a/b.c",
        ];
        for one in texts.map(path) {
            for other in texts.map(path) {
                let expected = one.components().cmp(other.components());
                assert_eq!(one.cmp(&other), expected, "{one} {other}");
            }
        }
    }

    #[test]
    fn paths_normalise_and_refuse_to_climb() {
        assert_eq!(path("/usr//bin/./x/").as_bytes(), b"usr/bin/x");
        assert!(TreePath::new("a/../b").is_err());
        assert!(TreePath::new("a\0b").is_err());
        assert_eq!(path("/a/b").parent(), Some(path("a")));
        assert_eq!(path("a").parent(), Some(TreePath::root()));
        assert!(path("a/b").is_below(&path("a")));
        assert!(!path("ab").is_below(&path("a")));
    }

    #[test]
    fn directories_are_followed_by_what_is_in_them() {
        let mut paths = vec![path("a-b"), path("a/b"), path("a"), path("a.c")];
        paths.sort();
        assert_eq!(paths, [path("a"), path("a/b"), path("a-b"), path("a.c")]);
    }
}
