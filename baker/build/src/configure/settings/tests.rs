//! What each table leaves in a small tree, and what it refuses.

use baker_model::Recipe;

use super::apply;
use crate::configure::error::ConfigureError;
use crate::configure::image::Image;
use crate::configure::testing;

const SYSTEM: &str = "/usr/lib/systemd/system";

const BASE: [(&str, &str); 9] = [
    ("/etc/passwd", "root:x:0:0:::\n"),
    ("/etc/group", "root:x:0:\n"),
    ("/usr/sbin/sshd", ""),
    ("/usr/bin/ssh-keygen", ""),
    (
        "/etc/ssh/sshd_config",
        "Include /etc/ssh/sshd_config.d/*.conf\n",
    ),
    (
        "/usr/lib/systemd/system/web.service",
        "[Service]\n[Install]\nWantedBy=multi-user.target\n",
    ),
    (
        "/usr/lib/systemd/system/sshd-keygen.service",
        "[Service]\n[Install]\nWantedBy=ssh.service\n",
    ),
    (
        "/usr/lib/systemd/system/systemd-networkd.service",
        "[Service]\n[Install]\nWantedBy=multi-user.target\n",
    ),
    ("/usr/lib/systemd/systemd-networkd", ""),
];

fn recipe(tables: &str) -> Recipe {
    let text = format!(
        "name = \"x\"\nversion = \"1.0.0\"\n[debian]\nsuite = \"trixie\"\npackages = []\n\
         {tables}\n"
    );
    Recipe::parse(&text.replace("[debian]", "[kernel]\npackage = \"k\"\n[debian]")).unwrap()
}

/// Applies the tables to [`BASE`] and more files, and gives what `look` sees.
fn with<T>(
    more: &[(&str, &str)],
    tables: &str,
    look: impl Fn(&Image<'_>, Vec<String>) -> T,
) -> Result<T, ConfigureError> {
    let spool = testing::spool();
    let files: Vec<_> = BASE.into_iter().chain(more.iter().copied()).collect();
    let mut image = testing::image(&spool, &files);
    let warnings = apply(&mut image, &recipe(tables))?;
    Ok(look(&image, warnings))
}

fn text(image: &Image<'_>, path: &str) -> String {
    image.read_text(path).unwrap().unwrap_or_default()
}

#[test]
fn a_recipe_without_settings_changes_nothing() {
    let spool = testing::spool();
    let mut image = testing::image(&spool, &BASE);
    let before = image.tree.clone();
    assert!(apply(&mut image, &recipe("")).unwrap().is_empty());
    assert_eq!(image.tree, before);
}

#[test]
fn keys_of_credentials_go_where_sshd_looks() {
    let tables = "[[credential]]\nname = \"ssh.authorized_keys.root\"\npurpose = \"logins\"\n";
    with(&[], tables, |image, _| {
        let rules = text(image, "/usr/lib/tmpfiles.d/baker-ssh.conf");
        let line = "f^ /run/ssh/authorized_keys.d/root 0644 root root - ssh.authorized_keys.root\n";
        assert!(rules.contains(line), "{rules}");
        let settings = text(image, "/etc/ssh/sshd_config.d/10-baker.conf");
        let folders =
            "AuthorizedKeysFile /etc/ssh/authorized_keys.d/%u /run/ssh/authorized_keys.d/%u\n";
        assert!(settings.contains(folders), "{settings}");
        let unit = format!("{SYSTEM}/systemd-tmpfiles-setup.service.d/50-baker-ssh.conf");
        assert!(text(image, &unit).contains("ImportCredential=ssh.authorized_keys.*\n"));
        let masked = image.node_itself("/etc/systemd/system/sshd-keygen.service");
        assert!(masked.unwrap().is_some());
    })
    .unwrap();
}

#[test]
fn keys_without_a_server_that_reads_them_are_refused() {
    let tables = "[[user]]\nname = \"ann\"\nauthorized-keys = [\"ssh-ed25519 AAAAC3 ann\"]\n";
    let own = [("/etc/ssh/sshd_config", "Port 22\n")];
    let error = with(&own, tables, |_, _| ()).unwrap_err().to_string();
    assert!(error.contains("does not include"), "{error}");
    let spool = testing::spool();
    let mut image = testing::image(&spool, &BASE[..2]);
    let error = apply(&mut image, &recipe(tables)).unwrap_err().to_string();
    assert!(error.contains("add \"openssh-server\""), "{error}");
}

#[test]
fn units_get_their_credentials_and_assert_what_they_need() {
    let tables = "[[credential]]\nname = \"tls.key\"\nunit = \"web.service\"\npurpose = \"key\"\n\
        [[credential]]\nname = \"motto\"\nunit = \"web.service\"\nrequired = false\npurpose = \"x\"\n";
    with(&[], tables, |image, _| {
        assert_eq!(
            text(
                image,
                &format!("{SYSTEM}/web.service.d/50-baker-credentials.conf")
            ),
            "[Unit]\nAssertCredential=tls.key\n\n[Service]\nImportCredential=tls.key\n\
             ImportCredential=motto\n"
        );
    })
    .unwrap();
    let gone = tables.replace("web.service", "gone.service");
    let error = with(&[], &gone, |_, _| ()).unwrap_err().to_string();
    assert!(error.contains("gone.service"), "{error}");
}

#[test]
fn names_go_through_the_resolver_that_is_there() {
    let tables = "[[network]]\nname = \"lan\"\nmatch = [\"en*\"]\ndns = [\"192.0.2.1\"]\n";
    let link = "/etc/systemd/system/multi-user.target.wants/systemd-networkd.service";
    with(&[], tables, |image, warnings| {
        assert!(warnings[0].contains("systemd-resolved"), "{warnings:?}");
        assert!(image.node_itself(link).unwrap().is_some());
    })
    .unwrap();
    let fixed = "[resolver]\ndns = [\"192.0.2.1\", \"2001:db8::1\"]\ndomains = [\"example.org\"]\n";
    with(&[], fixed, |image, _| {
        assert_eq!(
            text(image, "/etc/resolv.conf"),
            "nameserver 192.0.2.1\nnameserver 2001:db8::1\nsearch example.org\n"
        );
    })
    .unwrap();
    let unit = format!("{SYSTEM}/systemd-resolved.service");
    let resolved = [(&*unit, "[Install]\nWantedBy=sysinit.target\n")];
    with(&resolved, fixed, |image, _| {
        let settings = text(image, "/etc/systemd/resolved.conf.d/50-recipe.conf");
        assert_eq!(
            settings,
            "[Resolve]\nDNS=192.0.2.1 2001:db8::1\nDomains=example.org\n"
        );
        assert!(image.node_itself("/etc/resolv.conf").unwrap().is_some());
        assert_eq!(text(image, "/etc/resolv.conf"), "");
    })
    .unwrap();
}

#[test]
fn only_the_locales_that_were_asked_for_stay() {
    let compiled = [
        ("/usr/lib/locale/C.utf8/LC_TIME", ""),
        ("/usr/lib/locale/de_DE.utf8/LC_TIME", ""),
        ("/usr/lib/locale/de_DE.utf8@euro/LC_TIME", ""),
        ("/usr/lib/locale/fr_FR.utf8/LC_TIME", ""),
        ("/usr/share/zoneinfo/Europe/Berlin", ""),
    ];
    let tables = "[system]\nlocale = \"de_DE.UTF-8\"\nlocales = [\"de_DE.UTF-8\"]\n\
        time-zone = \"Europe/Berlin\"\n";
    with(&compiled, tables, |image, _| {
        let names = image.names("/usr/lib/locale").unwrap();
        assert_eq!(names, ["C.utf8", "de_DE.utf8"]);
        assert_eq!(text(image, "/etc/locale.conf"), "LANG=de_DE.UTF-8\n");
        assert_eq!(text(image, "/etc/timezone"), "Europe/Berlin\n");
        assert!(image.exists("/etc/localtime").unwrap());
    })
    .unwrap();
    let rows = [
        ("locales = [\"pl_PL.UTF-8\"]", "scripts = \"sandbox\""),
        ("time-zone = \"Mars/Base\"", "add \"tzdata\""),
    ];
    for (key, words) in rows {
        let error = with(&compiled, &format!("[system]\n{key}\n"), |_, _| ());
        let error = error.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn certificates_join_the_bundle_once_they_are_some() {
    let own = "/usr/local/share/ca-certificates/team.crt";
    let theirs = "-----BEGIN CERTIFICATE-----\nMIGAAA==\n-----END CERTIFICATE-----\n";
    // A sequence of 128 bytes, as DER writes its length.
    let good = {
        use base64ct::{Base64, Encoding as _};
        let der = [&[0x30, 0x81, 0x80][..], &[5; 128]].concat();
        let body = Base64::encode_string(&der);
        format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
    };
    let tables = "[system]\ncertificates = [\"files/team.pem\"]\n";
    let files = [
        (own, good.as_str()),
        ("/usr/share/ca-certificates/mozilla/A.crt", "first\n"),
    ];
    with(&files, tables, |image, _| {
        let bundle = text(image, "/etc/ssl/certs/ca-certificates.crt");
        assert_eq!(bundle, format!("first\n{good}"));
        assert!(image.exists("/etc/ssl/certs/team.pem").unwrap());
    })
    .unwrap();
    let rows = [
        ("", "holds no certificate"),
        (theirs, "no DER sequence"),
        ("-----BEGIN CERTIFICATE-----\nMA==\n", "without an end"),
        ("-----BEGIN PRIVATE KEY-----\n", "private key"),
    ];
    for (content, words) in rows {
        let error = with(&[(own, content)], tables, |_, _| ())
            .unwrap_err()
            .to_string();
        assert!(error.contains(words), "{error}");
        assert!(error.contains("files/team.pem"), "{error}");
    }
}

#[test]
fn firmware_stays_when_it_is_named() {
    let blobs = [
        ("/usr/lib/firmware/amdgpu/navi.bin.xz", "n"),
        ("/usr/lib/firmware/amdgpu/vega.bin", "v"),
        ("/usr/lib/firmware/rtl/one.bin", "-> ../rtl-old/one.bin"),
        ("/usr/lib/firmware/rtl-old/one.bin", "1"),
        ("/usr/lib/firmware/rtl-old/two.bin", "2"),
    ];
    let left = |list: &str| {
        let tables = format!("[kernel]\npackage = \"k\"\nfirmware = {list}\n");
        let spool = testing::spool();
        let mut image = testing::image(&spool, &blobs);
        let text = format!(
            "name = \"x\"\nversion = \"1.0.0\"\n[debian]\nsuite = \"trixie\"\npackages = []\n{tables}"
        );
        apply(&mut image, &Recipe::parse(&text).unwrap()).map(|_| {
            let names = |folder: &str| image.names(&format!("/usr/lib/firmware/{folder}")).unwrap();
            [names("amdgpu"), names("rtl"), names("rtl-old")]
                .concat()
                .join(" ")
        })
    };
    assert_eq!(left("[\"amdgpu/navi.bin\"]").unwrap(), "navi.bin.xz");
    assert_eq!(left("[\"rtl/*\"]").unwrap(), "one.bin one.bin");
    assert_eq!(left("[]").unwrap(), "");
    let error = left("[\"rtl/*\", \"intel/*\"]").unwrap_err().to_string();
    assert!(error.contains("`intel/*`"), "{error}");
}

#[test]
fn presets_decide_about_the_units_that_they_name() {
    let enabled = "/etc/systemd/system/multi-user.target.wants";
    let before = format!("{enabled}/old.service");
    let unit = format!("{SYSTEM}/old.service");
    let files = [
        (&*unit, "[Install]\nWantedBy=multi-user.target\n"),
        (&*before, "-> /usr/lib/systemd/system/old.service"),
    ];
    let tables =
        "[[preset]]\nname = \"10-x\"\ncontent = \"enable web.service\\ndisable old*\\n\"\n";
    with(&files, tables, |image, _| {
        assert_eq!(image.names(enabled).unwrap(), ["web.service"]);
    })
    .unwrap();
}

#[test]
fn the_data_partition_is_defined_with_what_it_takes() {
    let tools = [
        ("/usr/bin/systemd-repart", ""),
        ("/usr/sbin/mkfs.ext4", ""),
        ("/usr/bin/systemd-cryptsetup", ""),
    ];
    let key = "[disk.data]\nencrypt = \"key\"\nmount = \"/srv\"\n[[credential]]\n\
        name = \"cryptsetup.passphrase\"\npurpose = \"opens it\"\n";
    with(&tools, key, |image, _| {
        assert_eq!(
            text(image, "/usr/lib/repart.d/50-data.conf"),
            "[Partition]\nType=linux-generic\nLabel=data\nFormat=ext4\nEncrypt=key-file\n\
             SizeMinBytes=512M\nGrowFileSystem=yes\n"
        );
        assert_eq!(
            text(image, "/etc/crypttab"),
            "data /dev/disk/by-partlabel/data none luks,discard,tries=1,timeout=10s\n"
        );
        let drop_in = format!("{SYSTEM}/systemd-repart.service.d/50-baker-data.conf");
        assert!(text(image, &drop_in).contains("--key-file=%d/cryptsetup.passphrase\n"));
        let modules = text(image, "/usr/lib/systemd/baker-data-modules.conf");
        assert_eq!(modules, "loop\next4\ndm_crypt\nxts\n");
    })
    .unwrap();
    let rows = [
        (0, "[disk.data]\n", "add \"systemd-repart\""),
        (
            2,
            "[disk.data]\nformat = \"btrfs\"\n",
            "add \"btrfs-progs\"",
        ),
        (3, "[disk.data]\nencrypt = \"tpm2\"\n", "add \"libtss2-esys"),
    ];
    for (count, tables, words) in rows {
        let error = with(&tools[..count], tables, |_, _| ())
            .unwrap_err()
            .to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn etc_is_writable_when_asked_for() {
    with(&[], "[root]\netc-overlay = true\n", |image, _| {
        let mount = text(image, &format!("{SYSTEM}/etc.mount"));
        assert!(
            mount.contains("upperdir=/var/lib/baker-etc/upper,"),
            "{mount}"
        );
        let links = image
            .names(&format!("{SYSTEM}/local-fs.target.wants"))
            .unwrap();
        assert_eq!(links, ["etc-machine\\x2did.mount", "etc.mount"]);
    })
    .unwrap();
}
