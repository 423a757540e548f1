//! The tables of settings: what they stand for, and where nonsense is found.

use super::{Recipe, RecipeError};

const GOOD: &str = "name = \"tiny\"\nversion = \"1.0.0\"\n[debian]\nsuite = \"trixie\"\n\
    packages = [\"systemd\"]\n[kernel]\npackage = \"linux-image-cloud-amd64\"\n";

/// The line behind [`GOOD`].
const FIRST: usize = 8;

fn parse(tables: &str) -> Result<Recipe, RecipeError> {
    Recipe::parse(&format!("{GOOD}{tables}"))
}

/// The file that the tables stand for.
fn file(tables: &str, path: &str) -> String {
    let recipe = parse(tables).unwrap();
    let found = recipe.all_files().find(|file| file.path == path);
    let found = found.unwrap_or_else(|| panic!("{path} is not made"));
    found.content.clone().unwrap_or_default()
}

/// Every row is refused at its line, counted from the first one of the tables.
fn refused(rows: &[(&str, usize, &str)]) {
    for (tables, line, words) in rows {
        let error = parse(tables).expect_err(tables);
        let said = format!("{error} {}", error.hint.clone().unwrap_or_default());
        assert!(said.contains(words), "{tables}: {said}");
        assert_eq!(error.line, FIRST + line, "{tables}: {said}");
    }
}

#[test]
fn a_recipe_without_them_keeps_its_digest() {
    let text = serde_json::to_string(&parse("").unwrap()).unwrap();
    for word in [
        "credential",
        "network",
        "resolver",
        "sysctl",
        "modules\":{",
        "sysusers",
        "tmpfiles",
        "preset",
        "firmware",
        "authorized",
        "time-zone",
        "locale",
        "certificates",
        "etc-overlay",
        "cluster-size",
    ] {
        assert!(!text.contains(word), "{word}: {text}");
    }
}

#[test]
fn keys_of_users_stand_where_sshd_looks() {
    let path = "/etc/ssh/authorized_keys.d/ann";
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 ann@desk";
    let table = format!("[[user]]\nname = \"ann\"\nauthorized-keys = [\"{key}\"]\n");
    assert_eq!(file(&table, path), format!("{key}\n"));
    let beside = "[[user]]\nname = \"ann\"\nauthorized-keys-file = \"files/ann.pub\"\n";
    let recipe = parse(beside).unwrap();
    let made = recipe.all_files().find(|file| file.path == path).unwrap();
    assert_eq!(made.source.as_deref(), Some("files/ann.pub"));
    refused(&[
        ("[[user]]\nname = \"Ann\"\n", 1, "no user name"),
        (
            "[[user]]\nname = \"ann\"\nauthorized-keys = [\"AAAAC3\"]\n",
            2,
            "no SSH public key",
        ),
        (
            "[[user]]\nname = \"ann\"\nauthorized-keys-file = \"../x\"\n",
            2,
            "outside",
        ),
        (
            "[[user]]\nname = \"ann\"\nauthorized-key = []\n",
            2,
            "did you mean `authorized-keys`?",
        ),
    ]);
}

#[test]
fn credentials_are_named_and_given_to_tests() {
    let table = "[[credential]]\nname = \"tls.key\"\nunit = \"web.service\"\npurpose = \"TLS\"\n";
    let given = "[[test]]\n[[test.credential]]\nname = \"tls.key\"\nprivate-key = \"site\"\n";
    let recipe = parse(&format!("{table}{given}")).unwrap();
    let missing: Vec<_> = recipe.missing_credentials(|_| false).collect();
    assert_eq!(missing[0].purpose, "TLS");
    assert_eq!(
        recipe.missing_credentials(|name| name == "tls.key").count(),
        0
    );
    refused(&[
        (
            &format!("{table}[[test]]\n"),
            4,
            "gives no credential `tls.key` (TLS)",
        ),
        (&format!("{table}{table}"), 1, "given twice"),
        (
            &table.replace("web.service", "web.socket"),
            2,
            "name a *.service",
        ),
        (&table.replace("\"TLS\"", "\" \""), 1, "no purpose"),
        (
            &table.replace("tls.key", "a:b"),
            1,
            "no name of a credential",
        ),
        (
            "[[credential]]\nname = \"ssh.authorized_keys.bob\"\npurpose = \"x\"\n",
            1,
            "`bob`, which the recipe has not",
        ),
        (
            "[[test]]\n[[test.credential]]\nname = \"x\"\nvalue = \"1\"\nssh-key = \"k\"\n",
            2,
            "needs one of",
        ),
        (
            "[[test]]\n[[test.http]]\nport = 443\ntls = \"site\"\n",
            3,
            "a certificate `site`",
        ),
        (
            "[[test]]\n[[test.ssh]]\nuser = \"root\"\nkey = \"k\"\nrefused = true\ncontains = \"x\"\n",
            3,
            "runs nothing",
        ),
    ]);
}

#[test]
fn networks_become_files_in_their_order() {
    let tables = "[[network]]\nname = \"lan\"\nmatch = [\"en*\", \"52:54:00:00:00:01\"]\n\
        dhcp = \"ipv4\"\naddress = [\"192.0.2.7/24\"]\ngateway = [\"192.0.2.1\"]\n\
        dns = [\"2001:db8::53\"]\nmtu = 9000\nrequired = false\n\
        [[network]]\nname = \"rest\"\nmatch = [\"*\"]\ndhcp = \"yes\"\n";
    assert_eq!(
        file(tables, "/etc/systemd/network/20-lan.network"),
        "[Match]\nMACAddress=52:54:00:00:00:01\nName=en*\n\n\
         [Link]\nMTUBytes=9000\nRequiredForOnline=no\n\n\
         [Network]\nDHCP=ipv4\nAddress=192.0.2.7/24\nGateway=192.0.2.1\nDNS=2001:db8::53\n"
    );
    let rest = file(tables, "/etc/systemd/network/21-rest.network");
    assert!(rest.ends_with("DHCP=yes\n"), "{rest}");
    let card = "[[network]]\nname = \"a\"\nmatch = [\"en*\"]\n";
    refused(&[
        (
            "[[network]]\nname = \"a b\"\nmatch = [\"en*\"]\n",
            1,
            "no name",
        ),
        (
            "[[network]]\nname = \"a\"\nmatch = []\n",
            1,
            "names no card",
        ),
        (
            &format!("{card}address = [\"192.0.2.7\"]\n"),
            3,
            "with its prefix",
        ),
        (
            &format!("{card}address = [\"192.0.2.7/33\"]\n"),
            3,
            "with its prefix",
        ),
        (
            &format!("{card}gateway = [\"here\"]\n"),
            3,
            "invalid IP address",
        ),
        (&format!("{card}{card}"), 1, "two networks"),
        ("[resolver]\ndomains = [\"a b\"]\n", 1, "no domain"),
    ]);
}

#[test]
fn small_tables_become_small_files() {
    let tables = "[sysctl]\n\"kernel.panic\" = 10\n\"kernel.core_pattern\" = \"|/bin/false\"\n\
        [modules]\nload = [\"br_netfilter\"]\nblacklist = [\"pcspkr\"]\noptions = { loop = \"max_loop=8\" }\n\
        [[tmpfiles]]\nname = \"app\"\ncontent = \"d /var/app\"\n";
    let rows = [
        (
            "/etc/sysctl.d/60-recipe.conf",
            "kernel.core_pattern = |/bin/false\nkernel.panic = 10\n",
        ),
        ("/etc/modules-load.d/recipe.conf", "br_netfilter\n"),
        (
            "/etc/modprobe.d/recipe.conf",
            "blacklist pcspkr\noptions loop max_loop=8\n",
        ),
        ("/usr/lib/tmpfiles.d/app.conf", "d /var/app\n"),
    ];
    for (path, content) in rows {
        assert_eq!(file(tables, path), content);
    }
    refused(&[
        ("[sysctl]\n\"panic\" = 1\n", 1, "cannot be set"),
        ("[modules]\nload = [\"a b\"]\n", 1, "no name of a module"),
        ("[modules]\nloads = []\n", 1, "did you mean `load`?"),
        (
            "[[preset]]\nname = \"a/b\"\ncontent = \"\"\n",
            1,
            "no name of a file",
        ),
        (
            "[[file]]\npath = \"/usr/lib/tmpfiles.d/a.conf\"\ncontent = \"\"\n\
             [[tmpfiles]]\nname = \"a\"\ncontent = \"\"\n",
            1,
            "another table makes it",
        ),
    ]);
}

#[test]
fn the_data_partition_makes_sense() {
    let data = parse("[disk.data]\n").unwrap().disk.data.unwrap();
    assert_eq!((data.mib, data.mount()), (512, "/var"));
    refused(&[
        ("[disk]\ndata-mib = 64\n[disk.data]\n", 1, "keep one"),
        ("[disk.data]\nmib = 100\n", 1, "too small"),
        ("[disk.data]\nmount = \"/etc/x\"\n", 1, "no place for data"),
        ("[disk.data]\nmount = \"srv\"\n", 1, "no place for data"),
        (
            "[disk.data]\nencrypt = \"key\"\n",
            1,
            "cryptsetup.passphrase",
        ),
        (
            "[disk.data]\nencrypt = \"tpm\"\n",
            1,
            "did you mean `tpm2`?",
        ),
        (
            "[system]\nlocale = \"de_DE.UTF-8\"\n",
            1,
            "not among its `locales`",
        ),
        ("[system]\ntime-zone = \"../x\"\n", 1, "no time zone"),
        ("[system]\ncertificates = [\"/etc/x\"]\n", 1, "outside"),
    ]);
}

#[test]
fn a_root_says_how_it_is_packed() {
    let root = |keys: &str| parse(&format!("[root]\n{keys}\n")).map(|recipe| recipe.root);
    assert_eq!(root("").unwrap().cluster_size, None);
    let first = root("first = [\"/usr/bin/a\", \"/b\"]").unwrap().first;
    assert_eq!(first, ["/usr/bin/a", "/b"]);
    for size in [4096, 16_384, 1 << 20] {
        let found = root(&format!("cluster-size = {size}")).unwrap();
        assert_eq!(found.cluster_size, Some(size));
    }
    refused(&[
        ("[root]\ncluster-size = 0\n", 1, "no power of two"),
        ("[root]\ncluster-size = 2048\n", 1, "no power of two"),
        ("[root]\ncluster-size = 12288\n", 1, "no power of two"),
        ("[root]\ncluster-size = 2097152\n", 1, "no power of two"),
        (
            "[root]\ncompression = \"none\"\ncluster-size = 65536\n",
            2,
            "about EROFS with compression",
        ),
        (
            "[root]\nformat = \"squashfs\"\ncluster-size = 65536\n",
            2,
            "about EROFS with compression",
        ),
        (
            "[root]\nformat = \"squashfs\"\ncompression = \"none\"\n",
            2,
            "zstd only",
        ),
        ("[root]\nlevel = 23\n", 1, "outside 1 to 22"),
        (
            "[root]\nfirst = [\"/usr/bin/a\", \"usr/bin/b\"]\n",
            1,
            "no absolute path",
        ),
        ("[root]\nfirst = [\"/usr/../b\"]\n", 1, "climbs out"),
        (
            "[root]\nformat = \"squashfs\"\nfirst = [\"/usr/bin/a\"]\n",
            2,
            "about EROFS",
        ),
        (
            "[root]\ncompression = \"lz4hc\"\nlevel = 13\n",
            2,
            "outside 1 to 12",
        ),
    ]);
}
