//! What the recipe leaves out.

use std::collections::BTreeSet;

use baker_model::event::Event;
use baker_model::tree::TreePath;
use baker_model::{Listener, Tree};

use super::{OverlayError, Pattern};
use crate::links;

/// Removes every node that one of `patterns` matches, and gives their number.
///
/// A directory that is matched stays as long as something in it does: a pattern for a whole
/// directory ends in `/**`. Hard-linked files whose partners are gone become plain ones. A pattern
/// that removes nothing is told to `listener` (for the stage `stage`) as a warning.
///
/// # Errors
/// A pattern cannot be read; the tree is unchanged then.
pub fn exclude(
    tree: &mut Tree,
    patterns: &[String],
    stage: &'static str,
    listener: &dyn Listener,
) -> Result<usize, OverlayError> {
    let parsed: Vec<Pattern> = patterns
        .iter()
        .map(|text| {
            let fail = |source| OverlayError::Pattern {
                pattern: text.clone(),
                source,
            };
            Pattern::parse(text).map_err(fail)
        })
        .collect::<Result<_, _>>()?;
    let matched: Vec<BTreeSet<TreePath>> = parsed
        .iter()
        .map(|pattern| {
            let paths = tree
                .walk()
                .map(|(path, _)| path)
                .filter(|path| !path.is_root());
            paths
                .filter(|path| pattern.matches(path))
                .cloned()
                .collect()
        })
        .collect();
    let before = tree.len();
    tree.retain(|path, _| !matched.iter().any(|paths| paths.contains(path)));
    links::settle(tree);
    for (text, paths) in patterns.iter().zip(&matched) {
        let problem = if paths.is_empty() {
            "matches nothing in this image; correct it or drop it".to_owned()
        } else if paths.iter().all(|path| tree.get(path).is_some()) {
            format!("matches only directories that hold something; write `{text}/**` for that")
        } else {
            continue;
        };
        listener.event(Event::Warning {
            stage,
            text: format!("exclude `{text}` {problem}"),
        });
    }
    Ok(before - tree.len())
}
