//! The packages of indexes: one text for each index, and a row for each package that says where
//! in the text its fields lie.
//!
//! Tens of thousands of packages are read and a few hundred are ever looked at: a field becomes a
//! string when somebody asks for it, and relations are parsed later still.

use std::ops::Range;

use baker_model::Digest;

/// Fields that stay text, in the order of a row.
pub(super) const TEXTS: usize = 10;

/// The packages of one index or of several.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Records {
    texts: Vec<String>,
    rows: Vec<Row>,
}

/// One package of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Package name.
    pub name: &'a str,
    /// Version.
    pub version: &'a str,
    /// Architecture, `all` included.
    pub architecture: &'a str,
    /// `Pre-Depends`.
    pub pre_depends: &'a str,
    /// `Depends`.
    pub depends: &'a str,
    /// `Recommends`.
    pub recommends: &'a str,
    /// `Provides`.
    pub provides: &'a str,
    /// `Conflicts`.
    pub conflicts: &'a str,
    /// `Breaks`.
    pub breaks: &'a str,
    /// Path below the archive root.
    pub path: &'a str,
    /// `Essential: yes`.
    pub essential: bool,
    /// `Multi-Arch: allowed`.
    pub multi_arch_allowed: bool,
    /// `Priority`, 1 (required) to 6 (unknown); lower is taken first among equals.
    pub priority: u8,
    /// Size in bytes.
    pub size: u64,
    /// Digest.
    pub sha256: Digest,
    /// Number of the suite that it comes from, set by the reader's caller.
    pub suite: u16,
}

/// Where the fields of a package lie, and those that are no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    /// Bounds of the fields in the text: field `i` lies between the bounds `i` and `i + 1`.
    pub(super) bounds: [u32; TEXTS + 1],
    pub(super) size: u64,
    pub(super) sha256: Digest,
    pub(super) priority: u8,
    pub(super) essential: bool,
    pub(super) multi_arch_allowed: bool,
    pub(super) suite: u16,
    /// Place of the text among the texts.
    pub(super) text: u16,
}

impl Row {
    fn field(&self, place: usize) -> Range<usize> {
        self.bounds[place] as usize..self.bounds[place + 1] as usize
    }

    /// True when every field is a piece of `text`.
    pub(super) fn fits(&self, text: &str) -> bool {
        (0..TEXTS).all(|place| text.get(self.field(place)).is_some())
    }
}

impl Records {
    /// The records of one index.
    pub(super) fn new(text: String, rows: Vec<Row>) -> Self {
        let texts = vec![text];
        Self { texts, rows }
    }

    /// Text and rows of the records of one index.
    pub(super) fn parts(&self) -> (&str, &[Row]) {
        (self.texts.first().map_or("", String::as_str), &self.rows)
    }

    /// Number of packages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// True when there is no package.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The package at a place.
    #[inline]
    #[must_use]
    pub fn get(&self, place: usize) -> Option<Record<'_>> {
        self.rows.get(place).map(|row| self.record(row))
    }

    /// All packages, in the order of the indexes.
    pub fn iter(&self) -> impl Iterator<Item = Record<'_>> {
        self.rows.iter().map(|row| self.record(row))
    }

    /// Adds the packages of `others` behind these.
    pub fn append(&mut self, others: Self) {
        let before = u16::try_from(self.texts.len()).unwrap_or(u16::MAX);
        let moved = others.rows.into_iter().map(|row| Row {
            text: row.text.saturating_add(before),
            ..row
        });
        self.rows.extend(moved);
        self.texts.extend(others.texts);
    }

    /// Drops the packages that `keep` does not want.
    pub fn retain(&mut self, keep: impl Fn(Record<'_>) -> bool) {
        let Self { texts, rows } = self;
        rows.retain(|row| keep(record(texts, row)));
    }

    #[inline]
    fn record<'a>(&'a self, row: &Row) -> Record<'a> {
        record(&self.texts, row)
    }
}

/// Fields that do not lie in the text are empty; [`Row::fits`] has refused such a row before.
#[inline]
fn record<'a>(texts: &'a [String], row: &Row) -> Record<'a> {
    let whole = texts.get(usize::from(row.text)).map_or("", String::as_str);
    let text = |place| whole.get(row.field(place)).unwrap_or_default();
    Record {
        name: text(0),
        version: text(1),
        architecture: text(2),
        pre_depends: text(3),
        depends: text(4),
        recommends: text(5),
        provides: text(6),
        conflicts: text(7),
        breaks: text(8),
        path: text(9),
        essential: row.essential,
        multi_arch_allowed: row.multi_arch_allowed,
        priority: row.priority,
        size: row.size,
        sha256: row.sha256,
        suite: row.suite,
    }
}
