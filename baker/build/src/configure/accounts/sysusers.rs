//! `sysusers.d`: what `systemd-sysusers` would do, number for number.
//!
//! All groups of a run come first, then all users; free numbers are handed out downwards from
//! the top of the range, each as uid and gid together (`src/sysusers/sysusers.c` of systemd 257,
//! functions `add_group`, `add_user`, `process_item`).

use std::collections::BTreeMap;

use super::database::{Accounts, NewUser};
use crate::configure::error::ConfigureError;
use crate::configure::image::Image;
use crate::configure::words;

/// Folders of `sysusers.d`, the first that has a name wins.
const FOLDERS: [&str; 3] = [
    "/etc/sysusers.d",
    "/usr/local/lib/sysusers.d",
    "/usr/lib/sysusers.d",
];

/// Numbers handed out when no line gives another range: `SYSTEM_UID_MAX` of Debian downwards.
const RANGE: (u32, u32) = (1, 999);

/// What a run wants.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    groups: Vec<Wish>,
    users: Vec<Wish>,
    /// Pairs of group and user.
    members: Vec<(String, String)>,
    ranges: Vec<(u32, u32)>,
}

/// A user or a group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) name: String,
    pub(super) number: Option<u32>,
    /// True when another number than the given one will not do.
    pub(super) strict: bool,
    pub(super) group: Option<Primary>,
    pub(super) comment: String,
    pub(super) home: String,
    pub(super) shell: String,
    pub(super) expired: bool,
}

/// The primary group of a user, when it is not of the user's own name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Primary {
    Number(u32),
    Name(String),
}

/// Runs over the named files, in this order, as `systemd-sysusers a.conf b.conf` does.
pub(in crate::configure) fn run_named(
    image: &Image<'_>,
    accounts: &mut Accounts,
    names: &[String],
) -> Result<(), ConfigureError> {
    let mut wishes = Wishes::default();
    for name in names {
        let paths = FOLDERS.map(|folder| format!("{folder}/{name}"));
        for path in paths {
            if let Some(text) = image.read_text(&path)? {
                wishes.parse(image, &path, &text)?;
                break;
            }
        }
    }
    wishes.grant(accounts)
}

/// Does lines in the words of `sysusers.d` that no file has.
pub(in crate::configure) fn run_lines(
    image: &Image<'_>,
    accounts: &mut Accounts,
    lines: &[String],
) -> Result<(), ConfigureError> {
    let mut wishes = Wishes::default();
    wishes.parse(image, "accounts", &lines.join("\n"))?;
    wishes.grant(accounts)
}

/// Runs over all files of the tree: makes what nobody has made yet.
pub(in crate::configure) fn run_remaining(
    image: &Image<'_>,
    accounts: &mut Accounts,
) -> Result<(), ConfigureError> {
    let names: BTreeMap<String, String> = words::configuration_files(image, &FOLDERS)?;
    let mut wishes = Wishes::default();
    for path in names.values() {
        let text = image.read_text(path)?.unwrap_or_default();
        wishes.parse(image, path, &text)?;
    }
    wishes.grant(accounts)
}

impl Wishes {
    /// Adds a group.
    pub(super) fn group(&mut self, wish: Wish) {
        if self.groups.iter().all(|known| known.name != wish.name) {
            self.groups.push(wish);
        }
    }

    /// Adds a user.
    pub(super) fn user(&mut self, wish: Wish) {
        if self.users.iter().all(|known| known.name != wish.name) {
            self.users.push(wish);
        }
    }

    /// Adds a membership.
    pub(super) fn member(&mut self, group: &str, user: &str) {
        self.members.push((group.to_owned(), user.to_owned()));
    }

    fn parse(&mut self, image: &Image<'_>, file: &str, text: &str) -> Result<(), ConfigureError> {
        for (index, line) in text.lines().enumerate() {
            let refuse = |problem: String| ConfigureError::Syntax {
                file: file.to_owned(),
                line: index + 1,
                problem,
            };
            let fields = words::split(line).map_err(|problem| refuse(problem.to_owned()))?;
            let Some(action) = fields.first().filter(|word| !word.starts_with('#')) else {
                continue;
            };
            let field = |at: usize| {
                fields
                    .get(at)
                    .map(String::as_str)
                    .filter(|word| *word != "-")
            };
            let name = field(1).unwrap_or_default();
            let expand = |text: &str| words::expand(text, image);
            match action.as_str() {
                "g" => {
                    let mut wish = Wish {
                        name: expand(name)?,
                        ..Wish::default()
                    };
                    wish.number = number(image, field(2)).map_err(refuse)?;
                    self.group(wish);
                }
                "u" | "u!" => {
                    let mut wish = user(image, field(2)).map_err(refuse)?;
                    wish.name = expand(name)?;
                    wish.comment = expand(field(3).unwrap_or_default())?;
                    wish.home = expand(field(4).unwrap_or("/"))?;
                    let root = wish.number == Some(0);
                    let shell = if root {
                        "/bin/bash"
                    } else {
                        "/usr/sbin/nologin"
                    };
                    wish.shell = expand(field(5).unwrap_or(shell))?;
                    wish.expired = action == "u!";
                    self.user(wish);
                }
                "m" => self.member(&expand(field(2).unwrap_or_default())?, &expand(name)?),
                "r" => {
                    let range = field(2).and_then(range);
                    self.ranges
                        .push(range.ok_or_else(|| refuse("not a range".to_owned()))?);
                }
                other => return Err(refuse(format!("unknown action `{other}`"))),
            }
        }
        Ok(())
    }

    /// Does it all.
    pub(super) fn grant(mut self, accounts: &mut Accounts) -> Result<(), ConfigureError> {
        self.add_implied();
        let mut numbers = Numbers::new(&self.ranges);
        for group in &self.groups {
            numbers.group(accounts, group, group.number)?;
        }
        for user in &self.users {
            self.grant_user(accounts, &mut numbers, user)?;
        }
        for (group, user) in &self.members {
            accounts.add_member(group, user);
        }
        Ok(())
    }

    /// `m` lines make the user and the group that nothing else makes.
    fn add_implied(&mut self) {
        for (group, user) in self.members.clone() {
            let wish = Wish {
                name: user.clone(),
                home: "/".to_owned(),
                shell: "/usr/sbin/nologin".to_owned(),
                ..Wish::default()
            };
            self.user(wish);
            if self.users.iter().all(|known| known.name != group) {
                self.group(Wish {
                    name: group,
                    ..Wish::default()
                });
            }
        }
    }

    fn grant_user(
        &self,
        accounts: &mut Accounts,
        numbers: &mut Numbers,
        user: &Wish,
    ) -> Result<(), ConfigureError> {
        if accounts.has_user(&user.name) {
            return Ok(());
        }
        let gid = match &user.group {
            Some(Primary::Number(gid)) => *gid,
            Some(Primary::Name(name)) => {
                let place = format!("user `{}`", user.name);
                accounts.need_gid(name, &place)?
            }
            None => numbers.group(accounts, user, user.number)?,
        };
        let own_group = user.group.is_none();
        let uid = numbers.user(accounts, user, own_group.then_some(gid))?;
        accounts.add_user(&NewUser {
            name: &user.name,
            uid,
            gid,
            comment: &user.comment,
            home: &user.home,
            shell: &user.shell,
            expired: user.expired,
        })
    }
}

/// Hands out free numbers, downwards.
struct Numbers {
    left: Vec<u32>,
}

impl Numbers {
    fn new(ranges: &[(u32, u32)]) -> Self {
        let ranges = if ranges.is_empty() { &[RANGE] } else { ranges };
        let mut left: Vec<u32> = ranges.iter().flat_map(|&(low, high)| low..=high).collect();
        left.sort_unstable();
        left.dedup();
        Self { left }
    }

    /// The next number that is free as uid and as gid, or belongs to the same name already.
    fn next(&mut self, accounts: &Accounts, name: &str) -> Option<u32> {
        while let Some(number) = self.left.pop() {
            let user_free = accounts.user_with(number).is_none_or(|owner| owner == name);
            let group_free = accounts
                .group_with(number)
                .is_none_or(|owner| owner == name);
            if user_free && group_free {
                return Some(number);
            }
        }
        None
    }

    fn group(
        &mut self,
        accounts: &mut Accounts,
        wish: &Wish,
        number: Option<u32>,
    ) -> Result<u32, ConfigureError> {
        if let Some(gid) = accounts.group_number(&wish.name) {
            return Ok(gid);
        }
        let wanted = number.filter(|gid| accounts.group_with(*gid).is_none());
        let gid = match (wanted, number) {
            (Some(gid), _) => gid,
            (None, Some(gid)) if wish.strict => return Err(taken("group", &wish.name, gid)),
            _ => self
                .next(accounts, &wish.name)
                .ok_or_else(|| exhausted("group", &wish.name))?,
        };
        accounts.add_group(&wish.name, gid)?;
        Ok(gid)
    }

    fn user(
        &mut self,
        accounts: &Accounts,
        wish: &Wish,
        own_group: Option<u32>,
    ) -> Result<u32, ConfigureError> {
        // A number given with its group has been thought about; any other must also not be the
        // number of a foreign group.
        let free = |uid: &u32| {
            let foreign = accounts
                .group_with(*uid)
                .is_some_and(|owner| owner != wish.name);
            accounts.user_with(*uid).is_none() && (wish.strict || !foreign)
        };
        if let Some(uid) = wish.number.filter(free) {
            return Ok(uid);
        }
        if let Some(uid) = wish.number.filter(|_| wish.strict) {
            return Err(taken("user", &wish.name, uid));
        }
        let own = own_group.filter(free);
        own.or_else(|| self.next(accounts, &wish.name))
            .ok_or_else(|| exhausted("user", &wish.name))
    }
}

fn taken(kind: &'static str, name: &str, number: u32) -> ConfigureError {
    let problem = format!("number {number} is taken; give another one, or none");
    ConfigureError::Account {
        kind,
        name: name.to_owned(),
        problem,
    }
}

fn exhausted(kind: &'static str, name: &str) -> ConfigureError {
    let problem = "no system number is left".to_owned();
    ConfigureError::Account {
        kind,
        name: name.to_owned(),
        problem,
    }
}

/// An id field: nothing, a number, or a file whose owner has it.
fn number(image: &Image<'_>, field: Option<&str>) -> Result<Option<u32>, String> {
    match field {
        None => Ok(None),
        Some(path) if path.starts_with('/') => {
            let node = image.node(path).map_err(|error| error.to_string())?;
            Ok(node.map(|node| node.metadata.uid).filter(|uid| *uid != 0))
        }
        Some(text) => text
            .parse()
            .map(Some)
            .map_err(|_| format!("`{text}` is no number")),
    }
}

/// The id field of a user: as [`number`], or `uid:gid`, or `uid:group`, or `-:group`.
fn user(image: &Image<'_>, field: Option<&str>) -> Result<Wish, String> {
    let Some((uid, group)) = field.and_then(|field| field.split_once(':')) else {
        return Ok(Wish {
            number: number(image, field)?,
            ..Wish::default()
        });
    };
    let group = match group.parse() {
        Ok(gid) => Primary::Number(gid),
        Err(_) => Primary::Name(group.to_owned()),
    };
    let number = number(image, Some(uid).filter(|uid| *uid != "-"))?;
    Ok(Wish {
        number,
        strict: number.is_some(),
        group: Some(group),
        ..Wish::default()
    })
}

fn range(text: &str) -> Option<(u32, u32)> {
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    let (low, high) = (low.parse().ok()?, high.parse().ok()?);
    // The range of nobody and of dynamic users lies above; a larger one would only cost memory.
    (low <= high && high <= 65_533).then_some((low, high))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configure::testing;

    #[test]
    fn numbers_go_down_and_groups_come_first() {
        let text = "g one -\nu two - \"Two, too\" /nonexistent\ng three 50 -\nu! four 7:one\n\
                    m two three\nu sixty 998\n";
        let files = [
            ("/etc/passwd", "root:*:0:0:root:/root:/bin/bash\n"),
            ("/etc/group", "root:*:0:\nstaff:*:50:\n"),
            ("/usr/lib/sysusers.d/a.conf", text),
        ];
        let spool = testing::spool();
        let mut image = testing::image(&spool, &files);
        let mut accounts = Accounts::load(&image).unwrap();
        run_named(&image, &mut accounts, &["a.conf".to_owned()]).unwrap();
        accounts.save(&mut image).unwrap();
        assert_eq!(
            image.read_text("/etc/passwd").unwrap().unwrap(),
            "root:*:0:0:root:/root:/bin/bash\ntwo:x:997:997:Two, too:/nonexistent:\
             /usr/sbin/nologin\nfour:x:7:999::/:/usr/sbin/nologin\n\
             sixty:x:996:996::/:/usr/sbin/nologin\n"
        );
        assert_eq!(
            image.read_text("/etc/group").unwrap().unwrap(),
            "root:*:0:\nstaff:*:50:\none:x:999:\nthree:x:998:two\ntwo:x:997:\nsixty:x:996:\n"
        );
        assert!(
            image
                .read_text("/etc/shadow")
                .unwrap()
                .unwrap()
                .contains("four:!*:0:::::1:\n")
        );
    }

    #[test]
    fn a_broken_line_is_named() {
        let files = [("/usr/lib/sysusers.d/a.conf", "# fine\nq x\n")];
        let spool = testing::spool();
        let image = testing::image(&spool, &files);
        let mut accounts = Accounts::load(&image).unwrap();
        let error = run_remaining(&image, &mut accounts).unwrap_err();
        assert_eq!(
            error.to_string(),
            "/usr/lib/sysusers.d/a.conf, line 2: unknown action `q`"
        );
    }
}
