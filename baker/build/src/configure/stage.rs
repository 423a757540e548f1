//! The two halves of the configure stage, in the order in which things happen.

use baker_model::recipe::Scripts;
use baker_model::{Event, Listener, Recipe, Tree};

use super::accounts::{self, Accounts};
use super::coverage::{self, Plan, Step};
use super::error::ConfigureError;
use super::image::Image;
use super::ledger::Ledger;
use super::report::ConfigureReport;
use super::{effect, loader, order, sealed, settings, slots, units, updates, var};
use crate::{Assembled, Package, Spool, links};

/// Name of the stage in events.
pub const STAGE: &str = "configure";

/// The root between the two halves of the stage.
#[derive(Debug, Clone)]
pub struct Configured {
    /// The root as the scripts would have left it, with the recipe's accounts.
    pub tree: Tree,
    packages: Vec<Package>,
    report: ConfigureReport,
}

/// First half: does in process what the packages' scripts would do, and makes the recipe's
/// accounts, so that its files can be given to them. New nodes show `epoch` as their time.
///
/// # Errors
/// A script that nothing covers (all of them in one error), an effect that does not fit the tree,
/// or an account that cannot be made.
pub fn prepare(
    assembled: Assembled,
    recipe: &Recipe,
    spool: &Spool,
    epoch: i64,
) -> Result<Configured, ConfigureError> {
    let Assembled { tree, packages } = assembled;
    let plan = match recipe.debian.scripts {
        Scripts::Builtin => {
            let ordered = order::configuration_order(&packages);
            coverage::plan(&ordered, &recipe.debian.waived, &Ledger::load()?)?
        }
        // They have run.
        Scripts::Sandbox => Plan::default(),
    };
    let warnings = stale(recipe, &plan);
    let mut image = Image::new(tree, spool, epoch);
    run(&mut image, &plan.before)?;
    run(&mut image, &plan.after)?;
    let mut accounts = Accounts::load(&image)?;
    accounts::run_remaining(&image, &mut accounts)?;
    accounts::add_recipe_accounts(recipe, &mut accounts)?;
    accounts.save(&mut image)?;
    let report = ConfigureReport {
        scripts: plan.covered,
        warnings,
        ..Default::default()
    };
    Ok(Configured {
        tree: image.tree,
        packages,
        report,
    })
}

/// Second half, when the recipe's own files are in the tree: units, loader cache, stamps, `/var`.
///
/// # Errors
/// A wish of the recipe that cannot be met (an unknown unit), or a tree that does not hold
/// together (a broken library, a file where a directory should be).
pub fn finish(
    configured: Configured,
    recipe: &Recipe,
    spool: &Spool,
    epoch: i64,
    listener: &dyn Listener,
) -> Result<(Tree, ConfigureReport), ConfigureError> {
    let Configured {
        tree,
        packages,
        mut report,
    } = configured;
    let mut image = Image::new(tree, spool, epoch);
    // The recipe may have brought sysusers.d files of its own.
    let mut accounts = Accounts::load(&image)?;
    accounts::run_remaining(&image, &mut accounts)?;
    accounts.save(&mut image)?;

    report.warnings.extend(settings::apply(&mut image, recipe)?);
    let kind = var::kind(recipe);
    report.masked = sealed::mask_useless(&mut image, kind)?;
    report
        .warnings
        .extend(units::apply_services(&mut image, recipe)?);
    slots::count_boots(&mut image, recipe)?;
    report.warnings.extend(updates::define(&mut image, recipe)?);
    loader::write_cache(&mut image, &packages)?;
    sealed::seal(&mut image)?;
    var::make_var(&mut image, recipe)?;
    units::mount_early(&mut image)?;
    for text in &report.warnings {
        listener.event(Event::Warning {
            stage: STAGE,
            text: text.clone(),
        });
    }
    links::settle(&mut image.tree);
    Ok((image.tree, report))
}

fn run(image: &mut Image<'_>, steps: &[Step]) -> Result<(), ConfigureError> {
    for step in steps {
        for wanted in &step.effects {
            effect::apply(image, wanted).map_err(|source| ConfigureError::Effect {
                package: step.package.clone(),
                script: step.script,
                source: Box::new(source),
            })?;
        }
    }
    Ok(())
}

/// Waivers that waive nothing: the package is gone, or its script is covered by now.
fn stale(recipe: &Recipe, plan: &Plan) -> Vec<String> {
    let waived = recipe.debian.waived.iter().enumerate();
    let unused = waived.filter(|(at, _)| !plan.waivers.contains(at));
    unused
        .map(|(_, waive)| {
            format!(
                "[[debian.waive]] {} {} waives nothing; remove it from the recipe",
                waive.package, waive.script
            )
        })
        .collect()
}
