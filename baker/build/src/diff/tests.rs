//! Two small systems with every kind of difference between them.

use super::*;
use crate::look::fixture::{Names, image, part, system};
use crate::look::{look, survey};

struct Opened(Look, Survey, Owners);

impl Opened {
    fn new(names: &Names<'_>) -> Self {
        let look = look(part(image(names))).unwrap();
        let (survey, owners) = survey(&look).unwrap().unwrap();
        Self(look, survey, owners)
    }

    fn side<'a>(&'a self, name: &'a str) -> Side<'a> {
        Side {
            name,
            disk: Some(OpenDisk {
                look: &self.0,
                survey: &self.1,
                owners: &self.2,
            }),
            recipe: None,
            lock: None,
        }
    }
}

fn compared(from: &Names<'_>, to: &Names<'_>) -> Diff {
    let (from, to) = (Opened::new(from), Opened::new(to));
    diff(&from.side("old <1>"), &to.side("new"), &Interrupt::new()).unwrap()
}

/// The same system with something of everything changed.
fn changed<'a>() -> Names<'a> {
    let mut names = system();
    names.retain(|(path, ..)| *path != "usr/bin/stray");
    for (path, mode, content) in &mut names {
        match *path {
            "etc/motd" => *content = "one\n2 <b>\nthree\n",
            "usr/bin/su" => *mode = 0o755,
            "bin" => *content = "->/usr/bin",
            "etc/systemd/system/b.service" => *content = "->/elsewhere/x.service",
            "boot/grub/grub.cfg" => *content = "  linux /boot/vmlinuz root=/dev/vda1 debug\n",
            "var/lib/dpkg/status" => {
                *content = "Package: tool\nArchitecture: amd64\nVersion: 1.1-1\n\n\
                            Package: new|er\nArchitecture: all\nVersion: 3\n";
            }
            _ => {}
        }
    }
    names.push(("usr/bin/fresh", 0o755, "fresh"));
    names
}

#[test]
fn equal_systems_do_not_differ() {
    let found = compared(&system(), &system());
    assert!(found.is_equal(), "{found:?}");
    assert!(markdown(&found).contains("No differences."));
}

#[test]
fn every_kind_of_difference_is_told() {
    let found = compared(&system(), &changed());
    assert!(!found.is_equal());
    let packages: Vec<_> = found
        .packages
        .iter()
        .map(|change| {
            let version = |state: &Option<PackageState>| state.clone().map(|state| state.version);
            (
                change.name.as_str(),
                version(&change.from),
                version(&change.to),
            )
        })
        .collect();
    let some = |text: &str| Some(text.to_owned());
    let expected = [
        ("new|er", None, some("3")),
        ("su", some("2"), None),
        ("tool", some("1.0-1"), some("1.1-1")),
    ];
    assert_eq!(packages, expected);
    let file = |path: &str| {
        let file = found.files.iter().find(|file| file.path == path);
        let file = file.unwrap_or_else(|| panic!("{path} should differ"));
        let fields = file.fields.iter().map(|field| field.name.as_str());
        (file.change, fields.collect::<Vec<_>>().join(" "))
    };
    assert_eq!(file("/usr/bin/stray").0, "removed");
    assert_eq!(file("/usr/bin/fresh").0, "added");
    assert_eq!(file("/usr/bin/su"), ("changed", "mode".to_owned()));
    assert_eq!(file("/bin"), ("changed", "target".to_owned()));
    assert_eq!(file("/etc/motd"), ("changed", "content".to_owned()));
    assert_eq!(found.command_line.added, ["debug"]);
    assert_eq!(found.command_line.removed, ["quiet"]);
    assert_eq!(found.units.removed, ["b.service masked"]);
    assert_eq!(found.units.added, ["x.service as b.service"]);
    assert_eq!(found.privileged.removed, ["/usr/bin/su 4755 0:0 (setuid)"]);
    let motd = found.texts.iter().find(|text| text.path == "/etc/motd");
    let motd = &motd.unwrap().unified;
    assert!(motd.contains("\n-two\n+2 <b>\n"), "{motd}");
}

#[test]
fn pages_take_names_of_strangers_as_text() {
    let found = compared(&system(), &changed());
    let page = html(&found);
    assert!(
        page.contains("old &lt;1&gt;") && page.contains("+2 &lt;b&gt;"),
        "{page}"
    );
    assert!(!page.contains("<1>") && !page.contains("<b>&"), "{page}");
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    let comment = markdown(&found);
    assert!(comment.contains("| new\\|er |  | 3 |"), "{comment}");
}
