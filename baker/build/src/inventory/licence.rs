//! Licence names of Debian as those of SPDX.

use std::collections::BTreeSet;

/// An identifier that SPDX knows, or a `LicenseRef-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Licence(pub(super) String);

/// Debian's short names (DEP-5, "License specification", and what packages use) that are other
/// than the SPDX identifier. Names that mean several licences (`BSD`, `Artistic`) are not here.
const SYNONYMS: &[(&str, &str)] = &[
    ("apache-2", "Apache-2.0"),
    ("apache2", "Apache-2.0"),
    ("boost-1.0", "BSL-1.0"),
    ("bsd-0-clause", "0BSD"),
    ("bsd-2", "BSD-2-Clause"),
    ("bsd-2-clauses", "BSD-2-Clause"),
    ("bsd-2clause", "BSD-2-Clause"),
    ("bsd-3", "BSD-3-Clause"),
    ("bsd-3-clauses", "BSD-3-Clause"),
    ("bsd-3clause", "BSD-3-Clause"),
    ("cc0", "CC0-1.0"),
    ("expat", "MIT"),
    ("gfdl-1.3-no-invariant", "GFDL-1.3-no-invariants-only"),
    (
        "gpl-2+ with autoconf exception",
        "GPL-2.0-or-later WITH Autoconf-exception-2.0",
    ),
    (
        "gpl-2+ with bison exception",
        "GPL-2.0-or-later WITH Bison-exception-2.2",
    ),
    (
        "gpl-2+ with libtool exception",
        "GPL-2.0-or-later WITH Libtool-exception",
    ),
    (
        "gpl-2 with linux-syscall-note exception",
        "GPL-2.0-only WITH Linux-syscall-note",
    ),
    (
        "gpl-3+ with autoconf exception",
        "GPL-3.0-or-later WITH Autoconf-exception-3.0",
    ),
    (
        "gpl-3+ with bison exception",
        "GPL-3.0-or-later WITH Bison-exception-2.2",
    ),
    (
        "gpl-3+ with gcc exception",
        "GPL-3.0-or-later WITH GCC-exception-3.1",
    ),
    (
        "lgpl-2.1+ with linux-syscall-note exception",
        "LGPL-2.1-or-later WITH Linux-syscall-note",
    ),
    ("mit/x11", "X11"),
    ("openldap-2.8", "OLDAP-2.8"),
    ("psf-2", "PSF-2.0"),
    ("sleepycat", "Sleepycat"),
    ("zlib/libpng", "Zlib"),
];

/// Identifiers of SPDX that packages use as they are.
const KNOWN: &[&str] = &[
    "0BSD",
    "AFL-2.1",
    "Apache-2.0",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSD-4-Clause",
    "BSD-4-Clause-UC",
    "BSL-1.0",
    "BlueOak-1.0.0",
    "CC-BY-3.0",
    "CC-BY-4.0",
    "CC-BY-SA-3.0",
    "CC-BY-SA-4.0",
    "CC0-1.0",
    "CDDL-1.0",
    "CDDL-1.1",
    "EPL-1.0",
    "EPL-2.0",
    "FSFAP",
    "FSFUL",
    "FSFULLR",
    "FTL",
    "HPND",
    "ICU",
    "IJG",
    "ISC",
    "Libpng",
    "MIT",
    "MIT-0",
    "MPL-1.1",
    "MPL-2.0",
    "NCSA",
    "NTP",
    "OFL-1.1",
    "OpenSSL",
    "Python-2.0",
    "TCL",
    "Unicode-3.0",
    "Unlicense",
    "WTFPL",
    "X11",
    "Zlib",
    "bzip2-1.0.6",
    "curl",
];

/// Families whose names carry a version and a `+`.
const FAMILIES: [&str; 4] = ["GPL", "LGPL", "AGPL", "GFDL"];

/// The SPDX expression of a DEP-5 synopsis: names joined by `and`, `or`, and commas that bind
/// less than both. A name that SPDX does not have is given to `other`.
pub(super) fn expression(synopsis: &str, other: &mut dyn FnMut(&str) -> Licence) -> String {
    let mut whole = String::new();
    for part in synopsis.split(',') {
        let mut words: Vec<&str> = part.split_whitespace().collect();
        let mut joint = " AND ";
        if let Some(operator) = words
            .first()
            .and_then(|word| operator(word))
            .filter(|_| !whole.is_empty())
        {
            joint = operator;
            words.remove(0);
        }
        let group = group(&words, other);
        if group.is_empty() {
            continue;
        }
        if whole.is_empty() {
            whole = group;
        } else {
            whole = format!("{}{joint}{}", bracketed(whole), bracketed(group));
        }
    }
    whole
}

/// The expression of everything that `expressions` ask for, each term once and sorted; none when
/// they ask for nothing.
pub(super) fn all_of(expressions: &[String]) -> Option<String> {
    let terms: BTreeSet<&str> = expressions.iter().flat_map(|text| terms(text)).collect();
    let together = |term: &&str| match splits(term, " OR ").len() > 1 && terms.len() > 1 {
        true => format!("({term})"),
        false => (*term).to_owned(),
    };
    let joined: Vec<String> = terms.iter().map(together).collect();
    (!joined.is_empty()).then(|| joined.join(" AND "))
}

/// What must all hold, without the brackets around any of it.
fn terms(expression: &str) -> Vec<&str> {
    let is_choice = splits(expression, " OR ").len() > 1;
    let parts = match is_choice {
        true => vec![expression],
        false => splits(expression, " AND "),
    };
    match parts[..] {
        // Brackets around the whole.
        [part] if part.starts_with('(') && !is_choice => terms(&part[1..part.len() - 1]),
        [part] => (!part.is_empty()).then_some(part).into_iter().collect(),
        _ => parts.into_iter().flat_map(terms).collect(),
    }
}

/// The parts between `operator`, where it stands outside of brackets.
fn splits<'a>(expression: &'a str, operator: &str) -> Vec<&'a str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0_usize, 0);
    for (at, byte) in expression.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            _ if depth == 0 && expression.as_bytes()[at..].starts_with(operator.as_bytes()) => {
                parts.push(&expression[start..at]);
                start = at + operator.len();
            }
            _ => {}
        }
    }
    parts.push(&expression[start..]);
    parts
}

fn bracketed(expression: String) -> String {
    match expression.contains(" AND ") || expression.contains(" OR ") {
        true => format!("({expression})"),
        false => expression,
    }
}

fn operator(word: &str) -> Option<&'static str> {
    match word.to_ascii_lowercase().as_str() {
        "and" => Some(" AND "),
        "or" | "and/or" => Some(" OR "),
        _ => None,
    }
}

/// Names and operators without a comma; `and` binds more than `or`, as in SPDX.
fn group(words: &[&str], other: &mut dyn FnMut(&str) -> Licence) -> String {
    let mut expression = String::new();
    let mut name: Vec<&str> = Vec::new();
    let mut joint = "";
    for word in words.iter().copied().map(Some).chain([None]) {
        let next = match word {
            Some(word) => match operator(word) {
                Some(operator) => operator,
                None => {
                    name.push(word);
                    continue;
                }
            },
            None => "",
        };
        if !name.is_empty() {
            let joined = name.join(" ");
            let licence = known(&joined).unwrap_or_else(|| other(&joined));
            expression.push_str(joint);
            expression.push_str(&licence.0);
            name.clear();
            joint = next;
        }
    }
    expression
}

/// The SPDX name of one licence.
fn known(name: &str) -> Option<Licence> {
    let lower = name.to_ascii_lowercase();
    let synonym = SYNONYMS.iter().find(|(debian, _)| *debian == lower);
    let same = || KNOWN.iter().find(|known| known.eq_ignore_ascii_case(name));
    let found = synonym.map(|(_, spdx)| *spdx).or_else(|| same().copied());
    found
        .map(|id| Licence(id.to_owned()))
        .or_else(|| family(name))
}

/// `GPL-2+` and its like.
fn family(name: &str) -> Option<Licence> {
    let (family, rest) = name.split_once('-')?;
    let family = FAMILIES
        .iter()
        .find(|known| known.eq_ignore_ascii_case(family))?;
    let (version, suffix) = match rest.strip_suffix('+') {
        Some(version) => (version, "or-later"),
        None => match rest.split_once('-') {
            Some((version, suffix @ ("or-later" | "only"))) => (version, suffix),
            Some(_) => return None,
            None => (rest, "only"),
        },
    };
    let version = if version.contains('.') {
        version.to_owned()
    } else {
        format!("{version}.0")
    };
    let exists = match *family {
        "GPL" => ["1.0", "2.0", "3.0"].contains(&&*version),
        "LGPL" => ["2.0", "2.1", "3.0"].contains(&&*version),
        "AGPL" => ["1.0", "3.0"].contains(&&*version),
        _ => ["1.1", "1.2", "1.3"].contains(&&*version),
    };
    exists.then(|| Licence(format!("{family}-{version}-{suffix}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_twice_stands_once() {
        let rows: [(&[&str], _); 6] = [
            (&["B AND A", "A AND B", "B"], Some("A AND B")),
            (&["A OR B"], Some("A OR B")),
            (&["A OR B", "(A OR B) AND C"], Some("(A OR B) AND C")),
            (
                &["((A OR B) AND (C AND D)) AND C"],
                Some("(A OR B) AND C AND D"),
            ),
            (&["A AND B OR C", "B"], Some("(A AND B OR C) AND B")),
            (&["", ""], None),
        ];
        for (given, expected) in rows {
            let given: Vec<String> = given.iter().map(|&text| text.to_owned()).collect();
            assert_eq!(all_of(&given).as_deref(), expected, "{given:?}");
        }
    }

    #[test]
    fn names_and_operators_become_those_of_spdx() {
        let rows = [
            ("GPL-2+", "GPL-2.0-or-later"),
            ("LGPL-2.1", "LGPL-2.1-only"),
            ("gpl-3.0-or-later", "GPL-3.0-or-later"),
            ("GPL-2+ or Expat", "GPL-2.0-or-later OR MIT"),
            ("GPL-2 and ISC or zlib", "GPL-2.0-only AND ISC OR Zlib"),
            (
                "GPL-1+ or Artistic, and BSD-3-clause",
                "(GPL-1.0-or-later OR <Artistic>) AND BSD-3-Clause",
            ),
            (
                "GPL-2+ with OpenSSL exception",
                "<GPL-2+ with OpenSSL exception>",
            ),
            (
                "GPL-3+ with Autoconf exception",
                "GPL-3.0-or-later WITH Autoconf-exception-3.0",
            ),
            ("GPL-9", "<GPL-9>"),
            ("public-domain", "<public-domain>"),
            ("and", ""),
            (", ,", ""),
        ];
        for (synopsis, expected) in rows {
            let found = expression(synopsis, &mut |name| Licence(format!("<{name}>")));
            assert_eq!(found, expected, "{synopsis}");
        }
    }
}
