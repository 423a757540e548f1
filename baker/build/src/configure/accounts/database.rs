//! `/etc/passwd`, `/etc/group`, `/etc/shadow` and `/etc/gshadow` of the tree.
//!
//! Lines that are there stay as they are and keep their order; new ones follow, as
//! `systemd-sysusers` appends them: `x` in the open file, a locked password in the shadow file.

use baker_model::tree::Kind;

use crate::configure::error::ConfigureError;
use crate::configure::image::{Access, Image};

const EFFECT: &str = "accounts";
const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";
const SHADOW: &str = "/etc/shadow";
const GSHADOW: &str = "/etc/gshadow";

/// Bytes that would break a line of the four files.
const BREAKERS: [char; 3] = [':', '\n', '\0'];

/// All accounts of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::configure) struct Accounts {
    users: Vec<UserLine>,
    groups: Vec<GroupLine>,
    shadow: Vec<String>,
    gshadow: Vec<String>,
    /// Days since 1970-01-01 UTC, the unit of the shadow file.
    today: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct UserLine {
    name: String,
    uid: u32,
    gid: u32,
    text: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct GroupLine {
    name: String,
    gid: u32,
    password: String,
    members: Vec<String>,
}

/// A user to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NewUser<'a> {
    pub(super) name: &'a str,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) comment: &'a str,
    pub(super) home: &'a str,
    pub(super) shell: &'a str,
    /// An expired account refuses every login, not only those with a password.
    pub(super) expired: bool,
}

impl Accounts {
    /// Reads the files of the tree; missing ones are empty.
    pub(in crate::configure) fn load(image: &Image<'_>) -> Result<Self, ConfigureError> {
        let lines = |path: &str| -> Result<Vec<String>, ConfigureError> {
            let text = image.read_text(path)?.unwrap_or_default();
            Ok(text
                .lines()
                .filter(|line| !line.is_empty())
                .map(str::to_owned)
                .collect())
        };
        let users = lines(PASSWD)?.into_iter().enumerate().map(user_line);
        let groups = lines(GROUP)?.into_iter().enumerate().map(group_line);
        Ok(Self {
            users: users.collect::<Result<_, _>>()?,
            groups: groups.collect::<Result<_, _>>()?,
            shadow: lines(SHADOW)?,
            gshadow: lines(GSHADOW)?,
            today: image.epoch().div_euclid(86_400),
        })
    }

    /// Writes the files that hold anything, keeping the access of those that are there.
    pub(in crate::configure) fn save(&self, image: &mut Image<'_>) -> Result<(), ConfigureError> {
        let users: Vec<String> = self.users.iter().map(|user| user.text.clone()).collect();
        let groups: Vec<String> = self.groups.iter().map(GroupLine::text).collect();
        // 0000: what systemd-sysusers gives a shadow file that it makes; only root's
        // capabilities open it.
        let files = [
            (PASSWD, &users, 0o644),
            (GROUP, &groups, 0o644),
            (SHADOW, &self.shadow, 0),
            (GSHADOW, &self.gshadow, 0),
        ];
        for (path, lines, mode) in files {
            let text: String = lines
                .iter()
                .flat_map(|line| [line.as_str(), "\n"])
                .collect();
            let old = image.read_text(path)?;
            if old.as_deref().unwrap_or_default() == text {
                continue;
            }
            let access = match image.node(path)? {
                Some(node) if matches!(node.kind, Kind::File { .. }) => {
                    let data = &node.metadata;
                    Access {
                        mode: data.mode,
                        uid: data.uid,
                        gid: data.gid,
                    }
                }
                _ => Access::root(mode),
            };
            image.write(path, text, access, EFFECT)?;
        }
        Ok(())
    }

    /// Number of a user, by name or in digits.
    pub(in crate::configure) fn uid(&self, name: &str) -> Option<u32> {
        let by_name = self
            .users
            .iter()
            .find(|user| user.name == name)
            .map(|user| user.uid);
        by_name.or_else(|| name.parse().ok())
    }

    /// Number of a group, by name or in digits.
    pub(in crate::configure) fn gid(&self, name: &str) -> Option<u32> {
        let by_name = self
            .groups
            .iter()
            .find(|group| group.name == name)
            .map(|group| group.gid);
        by_name.or_else(|| name.parse().ok())
    }

    /// [`Accounts::uid`], or an error that says who asked.
    pub(in crate::configure) fn need_uid(
        &self,
        name: &str,
        place: &str,
    ) -> Result<u32, ConfigureError> {
        self.uid(name)
            .ok_or_else(|| no_account("user", name, place))
    }

    /// [`Accounts::gid`], or an error that says who asked.
    pub(in crate::configure) fn need_gid(
        &self,
        name: &str,
        place: &str,
    ) -> Result<u32, ConfigureError> {
        self.gid(name)
            .ok_or_else(|| no_account("group", name, place))
    }

    /// True when a user of this name exists.
    pub(super) fn has_user(&self, name: &str) -> bool {
        self.users.iter().any(|user| user.name == name)
    }

    /// Number of the group of exactly this name.
    pub(super) fn group_number(&self, name: &str) -> Option<u32> {
        self.groups
            .iter()
            .find(|group| group.name == name)
            .map(|group| group.gid)
    }

    /// Name of the first user with this number.
    pub(super) fn user_with(&self, uid: u32) -> Option<&str> {
        self.users
            .iter()
            .find(|user| user.uid == uid)
            .map(|user| user.name.as_str())
    }

    /// Name of the first group with this number.
    pub(super) fn group_with(&self, gid: u32) -> Option<&str> {
        self.groups
            .iter()
            .find(|group| group.gid == gid)
            .map(|group| group.name.as_str())
    }

    /// Adds a group as `addgroup --system` does, unless there is one: the first free number from
    /// 100 upwards, and a locked password in its own manner.
    pub(in crate::configure) fn add_system_group(
        &mut self,
        name: &str,
    ) -> Result<(), ConfigureError> {
        if self.group_number(name).is_some() {
            return Ok(());
        }
        let free = (100..=999).find(|&gid| self.group_with(gid).is_none());
        let free = free.ok_or_else(|| ConfigureError::Account {
            kind: "group",
            name: name.to_owned(),
            problem: "all numbers from 100 to 999 are taken".to_owned(),
        })?;
        self.add_group(name, free)?;
        if let Some(line) = self.gshadow.last_mut() {
            *line = format!("{name}:!::");
        }
        Ok(())
    }

    /// Adds a group; the caller has made sure that name and number are free.
    pub(super) fn add_group(&mut self, name: &str, gid: u32) -> Result<(), ConfigureError> {
        check("group", name, &[name])?;
        let password = "x".to_owned();
        self.groups.push(GroupLine {
            name: name.to_owned(),
            gid,
            password,
            members: Vec::new(),
        });
        self.gshadow.push(format!("{name}:!*::"));
        Ok(())
    }

    /// Adds a user; the caller has made sure that name and number are free.
    pub(super) fn add_user(&mut self, user: &NewUser<'_>) -> Result<(), ConfigureError> {
        let NewUser {
            name,
            uid,
            gid,
            comment,
            home,
            shell,
            expired,
        } = *user;
        check("user", name, &[name, comment, home, shell])?;
        let text = format!("{name}:x:{uid}:{gid}:{comment}:{home}:{shell}");
        self.users.push(UserLine {
            name: name.to_owned(),
            uid,
            gid,
            text,
        });
        let expiry = if expired { "1" } else { "" };
        self.shadow
            .push(format!("{name}:!*:{}:::::{expiry}:", self.today));
        Ok(())
    }

    /// Makes `user` a member of `group`, in both files.
    pub(super) fn add_member(&mut self, group: &str, user: &str) {
        let line = self.groups.iter_mut().find(|line| line.name == group);
        if let Some(line) = line.filter(|line| line.members.iter().all(|name| name != user)) {
            line.members.push(user.to_owned());
            line.members.sort();
        }
        let prefix = format!("{group}:");
        if let Some(line) = self
            .gshadow
            .iter_mut()
            .find(|line| line.starts_with(&prefix))
        {
            let (head, members) = line.rsplit_once(':').unwrap_or((line, ""));
            let mut members: Vec<&str> = members.split(',').filter(|m| !m.is_empty()).collect();
            if !members.contains(&user) {
                members.push(user);
                members.sort_unstable();
                *line = format!("{head}:{}", members.join(","));
            }
        }
    }

    /// Moves every password to the shadow files, as `shadowconfig on` does.
    pub(in crate::configure) fn shadow_all(&mut self) {
        let today = self.today;
        for user in &mut self.users {
            let mut fields: Vec<&str> = user.text.split(':').collect();
            if fields[1] != "x" {
                let prefix = format!("{}:", user.name);
                if !self.shadow.iter().any(|line| line.starts_with(&prefix)) {
                    let password = fields[1];
                    self.shadow
                        .push(format!("{}:{password}:{today}:0:99999:7:::", user.name));
                }
                fields[1] = "x";
                user.text = fields.join(":");
            }
        }
        for group in &mut self.groups {
            let prefix = format!("{}:", group.name);
            if group.password != "x" {
                if !self.gshadow.iter().any(|line| line.starts_with(&prefix)) {
                    let members = group.members.join(",");
                    self.gshadow
                        .push(format!("{}:{}::{members}", group.name, group.password));
                }
                "x".clone_into(&mut group.password);
            }
        }
    }
}

impl GroupLine {
    fn text(&self) -> String {
        format!(
            "{}:{}:{}:{}",
            self.name,
            self.password,
            self.gid,
            self.members.join(",")
        )
    }
}

fn no_account(kind: &'static str, name: &str, place: &str) -> ConfigureError {
    ConfigureError::NoAccount {
        place: place.to_owned(),
        kind,
        name: name.to_owned(),
    }
}

fn check(kind: &'static str, name: &str, fields: &[&str]) -> Result<(), ConfigureError> {
    let problem = if name.is_empty() || name.len() > 31 || name.starts_with('-') {
        "a name has 1 to 31 bytes and no leading hyphen"
    } else if name.contains(|c: char| !(c.is_ascii_alphanumeric() || "_-.".contains(c))) {
        "a name has letters, digits, `_`, `-` and `.` only"
    } else if fields.iter().any(|field| field.contains(BREAKERS)) {
        "a field holds a colon or a line break"
    } else {
        return Ok(());
    };
    Err(ConfigureError::Account {
        kind,
        name: name.to_owned(),
        problem: problem.to_owned(),
    })
}

fn user_line((index, text): (usize, String)) -> Result<UserLine, ConfigureError> {
    let fields: Vec<&str> = text.split(':').collect();
    let number = |at: usize| fields.get(at).and_then(|field| field.parse().ok());
    match (number(2), number(3)) {
        (Some(uid), Some(gid)) if fields.len() == 7 => Ok(UserLine {
            name: fields[0].to_owned(),
            uid,
            gid,
            text,
        }),
        _ => Err(broken(
            PASSWD,
            index,
            "a line has seven fields, numbers in the third and fourth",
        )),
    }
}

fn group_line((index, text): (usize, String)) -> Result<GroupLine, ConfigureError> {
    let fields: Vec<&str> = text.split(':').collect();
    match (
        fields.get(2).and_then(|field| field.parse().ok()),
        fields.len(),
    ) {
        (Some(gid), 4) => Ok(GroupLine {
            name: fields[0].to_owned(),
            gid,
            password: fields[1].to_owned(),
            members: fields[3]
                .split(',')
                .filter(|m| !m.is_empty())
                .map(str::to_owned)
                .collect(),
        }),
        _ => Err(broken(
            GROUP,
            index,
            "a line has four fields, a number in the third",
        )),
    }
}

fn broken(file: &str, index: usize, problem: &str) -> ConfigureError {
    ConfigureError::Syntax {
        file: file.to_owned(),
        line: index + 1,
        problem: problem.to_owned(),
    }
}
