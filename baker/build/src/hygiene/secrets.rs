//! Private keys and tokens in text files.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use baker_model::tree::{Content, Contents as _, Kind, LinkGroup, TreePath};

use super::rules::Rules;
use super::{Finding, HygieneError, Request};

/// Larger text files are data: what a person wrote by hand, or a key, is smaller.
const SIZE_LIMIT: u64 = 8 << 20;

/// A zero byte among the first so many makes a file binary, as for gitleaks and git.
const LOOK: usize = 8000;

/// Scans every text file once.
pub(super) fn check(request: Request<'_>) -> Result<Vec<Finding>, HygieneError> {
    let rules = Rules::get()?;
    let files = files(request);
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Ok(Vec::new())));
    let work = || {
        while let Some((path, content)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            let result = match request.interrupt.is_raised() {
                true => Err(HygieneError::Interrupted),
                false => scan(rules, path, content, request),
            };
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            match (&mut *found, result) {
                (Ok(all), Ok(some)) => all.extend(some),
                (_, Err(error)) => {
                    *found = Err(error);
                    return;
                }
                (Err(_), Ok(_)) => return,
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..request.threads.get().min(files.len()) {
            scope.spawn(work);
        }
        work();
    });
    found.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Files worth a look; of several names of one file, the first.
fn files<'a>(request: Request<'a>) -> Vec<(&'a TreePath, &'a Content)> {
    let mut seen: BTreeSet<LinkGroup> = BTreeSet::new();
    let nodes = request.tree.walk();
    nodes
        .filter_map(|(path, node)| match &node.kind {
            Kind::File { content, link } if (1..=SIZE_LIMIT).contains(&content.size()) => {
                let first = link.is_none_or(|link| seen.insert(link));
                first.then_some((path, content))
            }
            _ => None,
        })
        .collect()
}

fn scan(
    rules: &Rules,
    path: &TreePath,
    content: &Content,
    request: Request<'_>,
) -> Result<Vec<Finding>, HygieneError> {
    let read = |source| HygieneError::Read {
        path: path.clone(),
        source,
    };
    let bytes = match content {
        Content::Inline(bytes) => bytes.to_vec(),
        Content::Extern { digest, .. } => {
            // Most large files are programs; those are not read to their end.
            let mut start = [0; LOOK];
            let length = content.size().min(LOOK as u64);
            let start = &mut start[..usize::try_from(length).unwrap_or(LOOK)];
            request
                .contents
                .read_exact_at(digest, 0, start)
                .map_err(read)?;
            match start.contains(&0) {
                true => return Ok(Vec::new()),
                false => request.contents.read(content).map_err(read)?,
            }
        }
    };
    if bytes[..bytes.len().min(LOOK)].contains(&0) {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for rule in rules.called_by(&bytes) {
        for at in rule.find(&bytes)? {
            let lines = bytes[..at].iter().filter(|byte| **byte == b'\n').count();
            found.push(Finding {
                rule: format!("secret/{}", rule.id),
                path: path.clone(),
                line: Some(lines + 1),
                problem: format!("it looks like a secret ({})", rule.description),
                mend: "take it out, and change it wherever it is used",
            });
        }
    }
    Ok(found)
}
