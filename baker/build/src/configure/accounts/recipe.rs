//! `[[group]]` and `[[user]]` of the recipe.

use baker_model::Recipe;

use super::database::Accounts;
use super::sysusers::{Primary, Wish, Wishes};
use crate::configure::error::ConfigureError;

/// Adds the recipe's accounts; a number that is taken is an error, never another number.
pub(in crate::configure) fn add_recipe_accounts(
    recipe: &Recipe,
    accounts: &mut Accounts,
) -> Result<(), ConfigureError> {
    let mut wishes = Wishes::default();
    for group in &recipe.groups {
        wishes.group(Wish {
            name: group.name.clone(),
            number: group.gid,
            strict: true,
            ..Wish::default()
        });
    }
    for user in &recipe.users {
        wishes.user(Wish {
            name: user.name.clone(),
            number: user.uid,
            strict: true,
            group: user.group.clone().map(Primary::Name),
            comment: user.comment.clone(),
            home: user.home.clone(),
            shell: user.shell.clone(),
            expired: false,
        });
        for group in &user.groups {
            let known = accounts.group_number(group).is_some()
                || recipe.groups.iter().any(|own| own.name == *group);
            if !known {
                let place = format!("user `{}`", user.name);
                accounts.need_gid(group, &place)?;
            }
            wishes.member(group, &user.name);
        }
    }
    wishes.grant(accounts)
}
