//! The indexes beside the modules, as `depmod` writes them, for any selection of the modules.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use baker_model::tree::Contents;

use super::elf::Elf;
use super::info::{Info, canonical};
use super::kernel::{Module, Modules};
use super::trie::Trie;
use super::{ElfProblem, ModulesError};

/// Everything that the indexes need of one module.
#[derive(Debug, Default)]
pub(super) struct Facts {
    info: Info,
    exports: Vec<String>,
}

/// One index file: its name and bytes.
pub(super) type IndexFile = (&'static str, Vec<u8>);

impl Modules {
    /// Modules by canonical alias. Reads all of them.
    pub(super) fn aliases(
        &self,
        contents: &dyn Contents,
    ) -> Result<BTreeMap<String, Vec<usize>>, ModulesError> {
        let all: Vec<_> = (0..self.modules.len()).collect();
        let mut aliases: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (index, facts) in all.iter().zip(self.facts(contents, &all)?) {
            for alias in facts.info.aliases {
                let owners = aliases.entry(canonical(&alias)).or_default();
                if owners.last() != Some(index) {
                    owners.push(*index);
                }
            }
        }
        Ok(aliases)
    }

    /// The facts of these modules, in their order. Works on all cores: decompression is what
    /// takes the time.
    fn facts(&self, contents: &dyn Contents, which: &[usize]) -> Result<Vec<Facts>, ModulesError> {
        let next = AtomicUsize::new(0);
        let work = || {
            let mut done = Vec::new();
            while let Some(&index) = which.get(next.fetch_add(1, Ordering::Relaxed)) {
                done.push((index, read_facts(&self.modules[index], contents)));
            }
            done
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let mut found: BTreeMap<usize, Result<Facts, ModulesError>> = std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut found: BTreeMap<_, _> = work().into_iter().collect();
            for other in others {
                found.extend(other.join().expect("reading a module never panics"));
            }
            found
        });
        // In the order asked for, so that of several errors always the same one is given.
        which
            .iter()
            .map(|index| found.remove(index).unwrap_or_else(|| Ok(Facts::default())))
            .collect()
    }

    /// The indexes of a selection of modules (indexes in ascending order).
    pub(super) fn indexes(
        &self,
        contents: &dyn Contents,
        which: &[usize],
    ) -> Result<Vec<IndexFile>, ModulesError> {
        let facts = self.facts(contents, which)?;
        let modules: Vec<_> = which.iter().map(|&index| &self.modules[index]).collect();
        let set = Selection { modules, facts };
        let mut files = Vec::from(set.dependencies()?);
        files.extend(set.aliases()?);
        files.extend(set.symbols()?);
        files.push(("modules.softdep", set.softdeps()));
        files.push(("modules.weakdep", set.weakdeps()));
        files.push(("modules.devname", set.device_names()));
        files.extend(self.builtin_indexes()?);
        Ok(files)
    }

    fn builtin_indexes(&self) -> Result<[IndexFile; 2], ModulesError> {
        let (mut names, mut aliases) = (Trie::default(), Trie::default());
        for name in &self.builtin {
            names.insert(name, "", 0);
        }
        for (alias, module) in &self.builtin_aliases {
            if let Some(key) = normal_alias(alias) {
                aliases.insert(&key, module, 0);
            }
        }
        Ok([
            index("modules.builtin.bin", &names)?,
            index("modules.builtin.alias.bin", &aliases)?,
        ])
    }
}

fn read_facts(module: &Module, contents: &dyn Contents) -> Result<Facts, ModulesError> {
    let bytes = module.bytes(contents)?;
    parse_facts(&bytes).map_err(|source| ModulesError::Elf {
        path: module.path.clone(),
        source,
    })
}

fn parse_facts(bytes: &[u8]) -> Result<Facts, ElfProblem> {
    let elf = Elf::parse(bytes)?;
    Ok(Facts {
        info: Info::read(&elf)?,
        exports: elf.exports()?,
    })
}

fn index(name: &'static str, trie: &Trie) -> Result<IndexFile, ModulesError> {
    trie.to_bytes()
        .map(|bytes| (name, bytes))
        .ok_or(ModulesError::IndexSize { name })
}

/// `-` becomes `_`, except inside `[...]`; none when the brackets do not match, as kmod skips
/// such an alias too.
fn normal_alias(alias: &str) -> Option<String> {
    let mut in_class = false;
    let normal: Option<String> = alias
        .chars()
        .map(|character| match character {
            '-' if !in_class => Some('_'),
            ']' if !in_class => None,
            '[' | ']' => {
                in_class = character == '[';
                Some(character)
            }
            other => Some(other),
        })
        .collect();
    normal.filter(|_| !in_class)
}

/// Chosen modules with their facts, in the order that gives precedence.
struct Selection<'a> {
    modules: Vec<&'a Module>,
    facts: Vec<Facts>,
}

impl Selection<'_> {
    fn dependencies(&self) -> Result<[IndexFile; 2], ModulesError> {
        let direct = self.direct_dependencies();
        let ranks = loading_ranks(&direct);
        let (mut text, mut trie) = (String::new(), Trie::default());
        for (at, module) in self.modules.iter().enumerate() {
            let mut line = format!("{}:", module.relative);
            for needed in transitive(&direct, &ranks, at) {
                line.push(' ');
                line.push_str(&self.modules[needed].relative);
            }
            trie.insert(&module.name, &line, priority(at));
            text.push_str(&line);
            text.push('\n');
        }
        Ok([
            ("modules.dep", text.into_bytes()),
            index("modules.dep.bin", &trie)?,
        ])
    }

    /// What each module needs itself; a need outside the selection is built in.
    fn direct_dependencies(&self) -> Vec<Vec<usize>> {
        let places: BTreeMap<&str, usize> = self
            .modules
            .iter()
            .enumerate()
            .map(|(at, module)| (&module.name[..], at))
            .collect();
        let needed = |facts: &Facts| {
            facts
                .info
                .depends
                .iter()
                .filter_map(|name| places.get(&name[..]).copied())
                .collect()
        };
        self.facts.iter().map(needed).collect()
    }

    fn aliases(&self) -> Result<[IndexFile; 2], ModulesError> {
        let mut text = String::from("# Aliases extracted from modules themselves.\n");
        let mut trie = Trie::default();
        for (at, (module, facts)) in self.modules.iter().zip(&self.facts).enumerate() {
            for alias in &facts.info.aliases {
                text.push_str(&format!("alias {alias} {}\n", module.name));
                if let Some(key) = normal_alias(alias) {
                    trie.insert(&key, &module.name, priority(at));
                }
            }
        }
        Ok([
            ("modules.alias", text.into_bytes()),
            index("modules.alias.bin", &trie)?,
        ])
    }

    fn symbols(&self) -> Result<[IndexFile; 2], ModulesError> {
        let mut text = String::from("# Aliases for symbols, used by symbol_request().\n");
        let mut trie = Trie::default();
        for (at, (module, facts)) in self.modules.iter().zip(&self.facts).enumerate() {
            for symbol in &facts.exports {
                text.push_str(&format!("alias symbol:{symbol} {}\n", module.name));
                trie.insert(&format!("symbol:{symbol}"), &module.name, priority(at));
            }
        }
        Ok([
            ("modules.symbols", text.into_bytes()),
            index("modules.symbols.bin", &trie)?,
        ])
    }

    fn softdeps(&self) -> Vec<u8> {
        let mut text = String::from("# Soft dependencies extracted from modules themselves.\n");
        for (module, facts) in self.modules.iter().zip(&self.facts) {
            for softdep in &facts.info.softdeps {
                text.push_str(&format!("softdep {} {softdep}\n", module.name));
            }
        }
        text.into_bytes()
    }

    fn weakdeps(&self) -> Vec<u8> {
        let mut text = String::from("# Weak dependencies extracted from modules themselves.\n");
        for (module, facts) in self.modules.iter().zip(&self.facts) {
            for weakdep in &facts.info.weakdeps {
                text.push_str(&format!("weakdep {} {weakdep}\n", module.name));
            }
        }
        text.into_bytes()
    }

    /// Nodes that systemd makes at boot so that opening one loads its module.
    fn device_names(&self) -> Vec<u8> {
        let mut text = String::new();
        for (module, facts) in self.modules.iter().zip(&self.facts) {
            let aliases = &facts.info.aliases;
            let name = aliases
                .iter()
                .find_map(|alias| alias.strip_prefix("devname:"));
            let number = aliases.iter().find_map(|alias| device_number(alias));
            if let (Some(name), Some(number)) = (name, number) {
                text.push_str(&format!("{} {name} {number}\n", module.name));
            }
        }
        if !text.is_empty() {
            text.insert_str(0, "# Device nodes to trigger on-demand module loading.\n");
        }
        text.into_bytes()
    }
}

/// `char-major-10-229` as `c10:229`; none for patterns and everything else.
fn device_number(alias: &str) -> Option<String> {
    let (kind, rest) = alias
        .strip_prefix("char-major-")
        .map(|rest| ('c', rest))
        .or_else(|| alias.strip_prefix("block-major-").map(|rest| ('b', rest)))?;
    let (major, minor) = rest.split_once('-')?;
    Some(format!(
        "{kind}{}:{}",
        major.parse::<u32>().ok()?,
        minor.parse::<u32>().ok()?
    ))
}

fn priority(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// A rank for each module such that whatever needs another has the lower rank: modprobe loads a
/// line of `modules.dep` from its end. Modules in a circle keep the highest rank.
fn loading_ranks(direct: &[Vec<usize>]) -> Vec<usize> {
    let mut users = vec![0usize; direct.len()];
    direct
        .iter()
        .flatten()
        .for_each(|&needed| users[needed] += 1);
    let mut ranks = vec![usize::MAX; direct.len()];
    let mut free: Vec<usize> = (0..direct.len()).filter(|&at| users[at] == 0).collect();
    let mut next = 0;
    while let Some(at) = free.pop() {
        ranks[at] = next;
        next += 1;
        for &needed in &direct[at] {
            users[needed] -= 1;
            if users[needed] == 0 {
                free.push(needed);
            }
        }
    }
    ranks
}

/// All that `start` needs, in the order of ranks.
fn transitive(direct: &[Vec<usize>], ranks: &[usize], start: usize) -> Vec<usize> {
    let mut found = vec![false; direct.len()];
    let mut todo = vec![start];
    while let Some(at) = todo.pop() {
        for &needed in &direct[at] {
            if !std::mem::replace(&mut found[needed], true) {
                todo.push(needed);
            }
        }
    }
    let mut needed: Vec<usize> = (0..direct.len())
        .filter(|&at| found[at] && at != start)
        .collect();
    needed.sort_by_key(|&at| (ranks[at], at));
    needed
}
