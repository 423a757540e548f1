//! `baker run`: what cannot be handed to a machine is refused before it starts.

use std::fs;
use std::net::TcpListener;

use baker_tests::bakery::minimal_draft;
use baker_tests::program::Baker;

#[test]
fn what_cannot_be_handed_over_is_refused_before_the_boot() {
    let baker = Baker::new();
    let draft = minimal_draft().to_str().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = format!("{}:80", taken.local_addr().unwrap().port());
    fs::write(baker.home().join("large"), vec![b'x'; 50_000]).unwrap();
    let rows = [
        ("--port", "80:0", "write HOST:GUEST"),
        ("--port", port.as_str(), "cannot be had"),
        ("--credential", "name", "write NAME=FILE"),
        ("--credential", "a/b=large", "write NAME=FILE"),
        (
            "--credential",
            "name=absent",
            "cannot read absent, the credential name",
        ),
        (
            "--credential",
            "name=large",
            "the credentials have 50000 bytes",
        ),
    ];
    for (option, value, words) in rows {
        baker
            .run(["run", draft, "--direct", option, value])
            .assert(2, &[words]);
    }
}
