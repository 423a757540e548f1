//! Names of users and groups, as the image has them.

use std::fs;

/// A list of accounts.
#[derive(Debug, Clone, Copy)]
pub enum Accounts {
    /// `/etc/passwd`.
    Users,
    /// `/etc/group`.
    Groups,
}

impl Accounts {
    /// The number for a name or a number.
    pub fn number(self, text: &str) -> Result<u32, String> {
        if let Ok(number) = text.parse() {
            return Ok(number);
        }
        number_in(&self.read(), text).ok_or_else(|| format!("{} has no `{text}`", self.path()))
    }

    /// The name for a number, or the number when there is none.
    pub fn name(self, number: u32) -> String {
        name_in(&self.read(), number).unwrap_or_else(|| number.to_string())
    }

    fn path(self) -> &'static str {
        match self {
            Self::Users => "/etc/passwd",
            Self::Groups => "/etc/group",
        }
    }

    fn read(self) -> String {
        // An image without the file has numbers only.
        fs::read_to_string(self.path()).unwrap_or_default()
    }
}

fn number_in(table: &str, name: &str) -> Option<u32> {
    let (_, number) = entries(table).find(|(entry, _)| *entry == name)?;
    Some(number)
}

fn name_in(table: &str, number: u32) -> Option<String> {
    let (name, _) = entries(table).find(|(_, entry)| *entry == number)?;
    Some(name.to_owned())
}

/// Both files begin with name, password and number.
fn entries(table: &str) -> impl Iterator<Item = (&str, u32)> {
    table.lines().filter_map(|line| {
        let mut fields = line.split(':');
        Some((fields.next()?, fields.nth(1)?.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_found() {
        let table = "root:x:0:0:root:/root:/bin/sh\nbroken\nweb:x:33:33::/:\n";
        assert_eq!(number_in(table, "web"), Some(33));
        assert_eq!(number_in(table, "broken"), None);
        assert_eq!(name_in(table, 0).as_deref(), Some("root"));
        assert_eq!(name_in(table, 1), None);
        assert_eq!(Accounts::Users.number("12"), Ok(12));
        assert!(Accounts::Groups.number("no such group").is_err());
    }
}
