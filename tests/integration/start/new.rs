//! `baker new`: a recipe that bakes, asked for or answered, and nothing ever overwritten.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use baker_model::Recipe;
use baker_tests::program::{Baker, said, workspace};
use baker_tests::skip;

/// What the template said of the page must be in the image, and what the options said as well.
#[test]
fn what_new_writes_locks_and_bakes() {
    let baker = Baker::new().with_kept_store();
    let options = [
        "--from",
        "web",
        "--host-name",
        "front",
        "--package",
        "publicsuffix",
    ];
    let written = baker.ok([["new", "shop"].as_slice(), &options].concat());
    assert_eq!(written.stdout, "recipes/shop\n");
    written.assert(
        0,
        &[
            "next: baker lock recipes/shop\n",
            "baker fetch recipes/shop\n",
            "baker bake recipes/shop\n",
        ],
    );
    // The commands that it names.
    baker.ok(["lock", "recipes/shop"]);
    baker.ok(["fetch", "recipes/shop"]);
    let baked = baker.ok(["bake", "recipes/shop", "--to", "out"]);
    let draft = baked.stdout.trim();
    let read = |path: &str| baker.ok(["inspect", draft, "--cat", path]).stdout;
    assert_eq!(read("/etc/hostname"), "front\n");
    let page = workspace().join("recipes/web/files/index.html");
    assert_eq!(
        read("/var/www/html/index.html"),
        fs::read_to_string(page).unwrap()
    );
    let list = read("/usr/share/publicsuffix/public_suffix_list.dat");
    assert!(list.contains("BEGIN ICANN"), "the package is missing");
}

#[test]
fn a_written_recipe_says_what_its_keys_are_and_means_what_its_template_means() {
    let baker = Baker::new();
    for template in [
        "minimal",
        "web",
        "ssh-host",
        "database",
        "container-host",
        "ci-runner",
        "router",
        "rescue",
        "keeper",
        "one-binary",
    ] {
        baker.ok([
            "new",
            "mine",
            "--from",
            template,
            "--to",
            template,
            "--secure-boot",
        ]);
        let folder = baker.home().join(template);
        let text = fs::read_to_string(folder.join("mine/recipe.toml")).unwrap();
        assert!(
            text.starts_with("#:schema ../recipe.schema.json\n"),
            "{text}"
        );
        assert!(folder.join("recipe.schema.json").exists());
        let lines: Vec<_> = text.lines().collect();
        for key in [
            "name = ",
            "[debian]",
            "packages = ",
            "[kernel]",
            "modules = ",
            "[root]",
        ] {
            let at = lines.iter().position(|line| line.starts_with(key)).unwrap();
            assert!(
                lines[at - 1].starts_with("# "),
                "{key} has no comment:\n{text}"
            );
        }
        let original = workspace()
            .join("recipes")
            .join(template)
            .join("recipe.toml");
        let mut expected = Recipe::parse(&fs::read_to_string(original).unwrap()).unwrap();
        "mine".clone_into(&mut expected.name);
        "mine".clone_into(&mut expected.summary);
        expected.boot.secure_boot = true;
        assert_eq!(Recipe::parse(&text).unwrap(), expected);
    }
    // Without keys a release of a recipe that wants Secure Boot is refused: not the way to begin.
    baker.ok(["new", "plain"]);
    let text = fs::read_to_string(baker.home().join("recipes/plain/recipe.toml")).unwrap();
    assert!(!text.contains("secure"), "{text}");
}

#[test]
fn any_recipe_is_a_template_with_the_files_that_it_names() {
    let baker = Baker::new();
    baker.ok(["new", "first", "--from", "web"]);
    fs::write(baker.home().join("recipes/first/notes.txt"), "mine").unwrap();
    baker.ok([
        "new",
        "second",
        "--from",
        "recipes/first",
        "--package",
        "netbase",
    ]);
    let folder = baker.home().join("recipes/second");
    assert!(folder.join("files/index.html").exists());
    assert!(
        !folder.join("notes.txt").exists(),
        "not named by the recipe"
    );
    let text = fs::read_to_string(folder.join("recipe.toml")).unwrap();
    assert_eq!(text.matches("#:schema").count(), 1, "{text}");
    assert!(text.contains("\"nginx\", \"netbase\"]"), "{text}");
}

#[test]
fn new_refuses_what_it_cannot_do_and_writes_nothing() {
    let baker = Baker::new();
    baker.ok(["new", "taken"]);
    let recipe = baker.home().join("recipes/taken/recipe.toml");
    fs::write(&recipe, "mine").unwrap();
    fs::write(baker.home().join("recipes/recipe.schema.json"), "mine").unwrap();
    let rows: [(&[&str], &str); 7] = [
        (&["taken"], "recipes/taken is there already"),
        (&["Taken"], "use a-z, 0-9 and -"),
        (&["../up"], "use a-z, 0-9 and -"),
        (&["x", "--from", "wbe"], "`wbe` is no template"),
        (
            &["x", "--suite", "Bad Suite"],
            "a suite is a word like trixie",
        ),
        (&["x", "--package", "a b"], "`a b` is no package"),
        (&["x", "--host-name", "x_y"], "a host name has letters"),
    ];
    for (args, words) in rows {
        let args: Vec<_> = ["new"].into_iter().chain(args.iter().copied()).collect();
        baker.run(&args).assert(2, &[words]);
    }
    assert_eq!(fs::read_to_string(recipe).unwrap(), "mine");
    baker.ok(["new", "other"]);
    let schema = baker.home().join("recipes/recipe.schema.json");
    assert_eq!(fs::read_to_string(schema).unwrap(), "mine");
    let mut names: Vec<_> = fs::read_dir(baker.home().join("recipes"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["other", "recipe.schema.json", "taken"]);
}

/// `script` gives the program a terminal and types the answers.
#[test]
fn on_a_terminal_it_asks_for_what_no_option_says() {
    let test = "on_a_terminal_it_asks_for_what_no_option_says";
    let baker = Baker::new();
    let plain = baker.command(["new", "asked", "--summary", "a shop"]);
    let words: Vec<_> = [plain.get_program()]
        .into_iter()
        .chain(plain.get_args())
        .map(|word| format!("'{}'", word.to_str().unwrap()))
        .collect();
    let mut command = std::process::Command::new("script");
    let environment = plain
        .get_envs()
        .filter_map(|(key, value)| Some((key, value?)));
    command
        .args(["-qec", &words.join(" "), "/dev/null"])
        .env_clear()
        .envs(environment)
        .current_dir(baker.home())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let Ok(mut child) = command.spawn() else {
        return skip(test, "script (of bsdutils) is not installed");
    };
    let answers = "web\nBad Suite\n\nnetbase  nftables\nfront\nmaybe\nyes\n";
    let mut terminal = child.stdin.take().unwrap();
    terminal.write_all(answers.as_bytes()).unwrap();
    let said = said(&child.wait_with_output().unwrap());
    drop(terminal);
    assert_eq!(said.code, Some(0), "{said:#?}");
    for words in [
        "Template (minimal, web, ssh-host, database, ",
        "Suite [trixie]: a suite is a word like trixie",
        "More packages [none]: ",
        "Host name [asked]: ",
        "answer yes or no",
        "next: baker lock recipes/asked",
    ] {
        assert!(said.stdout.contains(words), "{words} is missing: {said:#?}");
    }
    assert!(!said.stdout.contains("One line about it"), "{said:#?}");
    let text = fs::read_to_string(baker.home().join("recipes/asked/recipe.toml")).unwrap();
    let recipe = Recipe::parse(&text).unwrap();
    assert_eq!(recipe.summary, "a shop");
    assert_eq!(recipe.system.host_name.as_deref(), Some("front"));
    assert!(recipe.debian.packages.ends_with(&[
        "nginx".to_owned(),
        "netbase".to_owned(),
        "nftables".to_owned()
    ]));
    assert!(recipe.boot.secure_boot);
}
