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
    wishes.grant(accounts)?;
    check_numbers(recipe, accounts)
}

/// What a package has made first keeps its number, and that must be the one asked for: files on
/// data that outlives an image belong to numbers.
fn check_numbers(recipe: &Recipe, accounts: &Accounts) -> Result<(), ConfigureError> {
    let groups = recipe.groups.iter();
    let groups = groups.map(|it| ("group", &it.name, it.gid, accounts.group_number(&it.name)));
    let users = recipe.users.iter();
    let users = users.map(|it| ("user", &it.name, it.uid, accounts.uid(&it.name)));
    for (kind, name, wanted, found) in groups.chain(users) {
        let (Some(wanted), Some(found)) = (wanted, found) else {
            continue;
        };
        if wanted != found {
            return Err(ConfigureError::Account {
                kind,
                name: name.clone(),
                problem: format!("a package gave it the number {found}, the recipe {wanted}"),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configure::testing;

    #[test]
    fn a_number_is_the_one_asked_for_or_an_error() {
        let files = [
            ("/etc/passwd", "ann:*:100:102::/:/bin/sh\n"),
            ("/etc/group", "ann:*:102:\n"),
        ];
        let spool = testing::spool();
        let image = testing::image(&spool, &files);
        let text = "name = \"x\"\nversion = \"1.0.0\"\n[debian]\nsuite = \"trixie\"\n\
                    packages = [\"base-files\"]\n[kernel]\npackage = \"linux-image-cloud-amd64\"\n";
        for (table, problem) in [
            ("[[user]]\nname = \"ann\"\nuid = 100\n", ""),
            ("[[user]]\nname = \"ann\"\n", ""),
            (
                "[[user]]\nname = \"ann\"\nuid = 101\n",
                "the number 100, the recipe 101",
            ),
            (
                "[[group]]\nname = \"ann\"\ngid = 100\n",
                "the number 102, the recipe 100",
            ),
        ] {
            let recipe = Recipe::parse(&format!("{text}{table}")).unwrap();
            let mut accounts = Accounts::load(&image).unwrap();
            let said = add_recipe_accounts(&recipe, &mut accounts)
                .err()
                .map_or_else(String::new, |error| error.to_string());
            assert!(said.contains(problem), "{table}: {said}");
            assert_eq!(said.is_empty(), problem.is_empty(), "{table}: {said}");
        }
    }
}
