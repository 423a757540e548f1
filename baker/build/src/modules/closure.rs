//! Modules and what they need, in loading order.

use std::collections::{BTreeMap, BTreeSet};

use baker_model::tree::Contents;

use super::ModulesError;
use super::elf::Elf;
use super::info::{Info, canonical};
use super::kernel::Modules;

/// A module that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedModule {
    /// Canonical name, with `_`.
    pub name: String,
    /// The module, decompressed.
    pub bytes: Vec<u8>,
    /// Names of the modules whose symbols it uses.
    pub(super) depends: Vec<String>,
    /// Patterns by which it is asked for.
    pub(super) aliases: Vec<String>,
}

impl Modules {
    /// The modules named and all that they need, each after what it needs. A name may be an
    /// alias; what is built in needs no module. Only the modules given back are decompressed,
    /// unless an alias has to be looked for.
    ///
    /// # Errors
    /// A name is unknown, or a module cannot be read.
    pub fn closure(
        &self,
        contents: &dyn Contents,
        names: &[String],
    ) -> Result<Vec<LoadedModule>, ModulesError> {
        let mut walk = Walk::new(self, contents);
        for name in names {
            for index in walk.resolve(name)?.ok_or_else(|| self.unknown(name))? {
                walk.visit(index)?;
            }
        }
        Ok(walk.order)
    }

    fn unknown(&self, name: &str) -> ModulesError {
        ModulesError::Unknown {
            name: name.to_owned(),
            release: self.release.clone(),
            nearest: self.nearest(name),
        }
    }
}

/// A depth-first walk over dependencies; what is finished comes out in order.
struct Walk<'a> {
    modules: &'a Modules,
    contents: &'a dyn Contents,
    begun: BTreeSet<usize>,
    order: Vec<LoadedModule>,
    /// Modules by canonical alias; made when first needed, because it takes reading all.
    aliases: Option<BTreeMap<String, Vec<usize>>>,
}

impl<'a> Walk<'a> {
    fn new(modules: &'a Modules, contents: &'a dyn Contents) -> Self {
        Self {
            modules,
            contents,
            begun: BTreeSet::new(),
            order: Vec::new(),
            aliases: None,
        }
    }

    /// The modules behind a name; empty when it is built in, none when nobody knows it.
    fn resolve(&mut self, name: &str) -> Result<Option<Vec<usize>>, ModulesError> {
        if let Some(index) = self.modules.find(name) {
            return Ok(Some(vec![index]));
        }
        // Before modules with that alias, unlike modprobe: they would only be faster ways to do
        // what the kernel can do already, and the initrd is to be small.
        if self.modules.is_builtin(name) {
            return Ok(Some(Vec::new()));
        }
        if self.aliases.is_none() {
            self.aliases = Some(self.modules.aliases(self.contents)?);
        }
        Ok(self
            .aliases
            .as_ref()
            .and_then(|aliases| aliases.get(&canonical(name)).cloned()))
    }

    /// Loads what `index` needs, then itself, then what should follow it. The set of those begun
    /// also ends circles of soft dependencies.
    fn visit(&mut self, index: usize) -> Result<(), ModulesError> {
        if !self.begun.insert(index) {
            return Ok(());
        }
        let module = &self.modules.modules[index];
        let bytes = module.bytes(self.contents)?;
        let mut info = Elf::parse(&bytes)
            .and_then(|elf| Info::read(&elf))
            .map_err(|source| ModulesError::Elf {
                path: module.path.clone(),
                source,
            })?;
        self.visit_soft(info.soft_before())?;
        for name in &info.depends {
            match (self.modules.find(name), self.modules.is_builtin(name)) {
                (Some(needed), _) => self.visit(needed)?,
                (None, true) => {}
                (None, false) => {
                    return Err(ModulesError::MissingDependency {
                        path: module.path.clone(),
                        name: name.clone(),
                        release: self.modules.release.clone(),
                    });
                }
            }
        }
        self.order.push(LoadedModule {
            name: module.name.clone(),
            bytes,
            depends: std::mem::take(&mut info.depends),
            aliases: std::mem::take(&mut info.aliases),
        });
        self.visit_soft(info.soft_after())
    }

    /// A soft dependency that nobody has is no loss.
    fn visit_soft<'n>(&mut self, names: impl Iterator<Item = &'n str>) -> Result<(), ModulesError> {
        for name in names {
            for index in self.resolve(name)?.unwrap_or_default() {
                self.visit(index)?;
            }
        }
        Ok(())
    }
}
