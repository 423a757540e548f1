//! `baker run`: what a person hands to a machine arrives, seen from outside in one real boot.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use baker_tests::bakery::{Locked, minimal_draft, seated};
use baker_tests::program::Baker;

/// The machine may take this long under emulation on a busy host.
const PATIENCE: Duration = Duration::from_secs(180);

/// A unit that is a credential, and that only the kernel command line starts: the console shows it
/// when both arrived.
const UNIT: &str = "[Unit]\nDescription=handed over\n[Service]\nExecStart=/usr/sbin/nginx -v\n";

/// Ends the machine as Ctrl-C does, whatever the test came to.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        let id = self.0.id().to_string();
        drop(
            std::process::Command::new("kill")
                .args(["-INT", &id])
                .status(),
        );
        drop(self.0.wait());
    }
}

fn ask(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    stream
        .write_all(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n")
        .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.contains("\r\n\r\n").then_some(answer)
}

#[test]
fn port_credential_and_kernel_arguments_reach_the_machine() {
    let locked = Locked::new("web", |text| text);
    let home = locked.baker.home();
    let draft = locked.bake(&home.join("drafts"));
    fs::write(home.join("unit"), UNIT).unwrap();
    // Taken and given back: nobody else is told this port.
    let port = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = port.local_addr().unwrap().port();
    let answer = seated(|| {
        let mut command = locked.baker.command(["run", "--port"]);
        command
            .arg(format!("{port}:80"))
            .args(["--credential", "systemd.extra-unit.second.service=unit"])
            .args([
                "--append",
                "systemd.wants=second.service systemd.show_status=1",
            ])
            .arg(&draft)
            .stdin(Stdio::piped())
            .stdout(fs::File::create(home.join("console")).unwrap())
            .stderr(Stdio::null());
        let machine = Machine(command.spawn().unwrap());
        let begin = Instant::now();
        let answer = loop {
            let shown = fs::read(home.join("console")).unwrap();
            let shown = String::from_utf8_lossy(&shown);
            let is_started = shown
                .lines()
                .any(|line| line.contains("Started ") && line.contains("handed over"));
            let answer = ask(port).filter(|_| is_started);
            if answer.is_some() || begin.elapsed() > PATIENCE {
                break answer;
            }
            std::thread::sleep(Duration::from_millis(200));
        };
        drop(machine);
        answer
    });
    let console = fs::read(home.join("console")).unwrap();
    let console = String::from_utf8_lossy(&console);
    let answer = answer.unwrap_or_else(|| panic!("no answer; the console:\n{console}"));
    assert!(answer.contains("200 OK"), "{answer}");
}

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
