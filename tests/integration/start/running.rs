//! `baker run`: what is handed to a machine is there, and what cannot be is refused before it
//! starts.

use std::fs;
use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use baker_tests::bakery::{Locked, minimal_draft, seated};
use baker_tests::program::Baker;

/// Of `recipes/minimal`: a root of another format, a network, and a credential that nobody gives.
const MORE: &str = "
[services]
enable = [\"systemd-networkd.service\"]
[[network]]
name = \"dhcp\"
match = [\"en*\", \"eth*\"]
dhcp = \"yes\"
[[credential]]
name = \"licence\"
purpose = \"shows what is missing\"
";

/// Copies out of one folder into the other, and tries to write where it must not.
const PROOF: &str = "[Unit]
RequiresMountsFor=/run/share/in /run/share/out
[Service]
Type=oneshot
ExecStart=-/usr/bin/systemd-tmpfiles --create /run/share/in/lines.conf
";

const LINES: &str = "C /run/share/out/copy - - - - /run/share/in/hello
f /run/share/in/intruder - - - - here
f /run/share/out/done - - - - done
";

const SOCKET: &str = "[Socket]
ListenStream=7000
Accept=yes
";

/// Says the credential to whoever connects, and ends the machine.
const TALK: &str = "[Unit]
After=proof.service
SuccessAction=poweroff
[Service]
Type=oneshot
ExecStart=/usr/bin/systemd-creds --system cat greeting
StandardOutput=socket
";

/// The units come as credentials, kernel arguments start them, what they do is seen in the shared
/// folders, and a forwarded port answers with a credential.
#[test]
fn a_person_gets_ports_credentials_arguments_and_folders() {
    let locked = Locked::new("minimal", |text| {
        // Tests would have to give the credential that is missing here.
        let rest = text.split("[[test]]").next().unwrap_or_default();
        rest.replace("format = \"erofs\"", "format = \"squashfs\"") + MORE
    });
    let draft = locked.bake(&locked.baker.home().join("drafts"));
    let home = locked.baker.home();
    for folder in ["in", "out"] {
        fs::create_dir(home.join(folder)).unwrap();
    }
    fs::write(home.join("in/hello"), "hello from the host\n").unwrap();
    fs::write(home.join("in/lines.conf"), LINES).unwrap();
    let credentials = [
        ("systemd.extra-unit.proof.service", PROOF),
        ("systemd.extra-unit.talk.socket", SOCKET),
        ("systemd.extra-unit.talk@.service", TALK),
        ("greeting", "a word for the guest"),
    ];
    let mut arguments: Vec<String> = ["run", draft.to_str().unwrap(), "--direct"]
        .map(str::to_owned)
        .to_vec();
    for (number, (name, text)) in credentials.iter().enumerate() {
        fs::write(home.join(number.to_string()), text).unwrap();
        arguments.extend(["--credential".to_owned(), format!("{name}={number}")]);
    }
    // A port that was free a moment ago.
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let rest = [
        "--append",
        "systemd.wants=proof.service systemd.wants=talk.socket",
        "--share",
        "in",
        "--share",
        "out:/run/share/out:rw",
        "--port",
        &format!("{port}:7000"),
    ];
    arguments.extend(rest.map(str::to_owned));
    let mut command = locked.baker.command(&arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let (heard, output) = seated(|| {
        let mut child = command.spawn().unwrap();
        let mut heard = String::new();
        // A forwarded port takes connections before anybody listens behind it.
        while heard.is_empty() && child.try_wait().unwrap().is_none() {
            if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
                let limit = Duration::from_secs(20);
                stream.set_read_timeout(Some(limit)).unwrap();
                stream.read_to_string(&mut heard).ok();
            }
            sleep(Duration::from_millis(300));
        }
        (heard, child.wait_with_output().unwrap())
    });
    let (said, console) = (
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout),
    );
    assert_eq!(output.status.code(), Some(0), "{said}\n{console}");
    assert_eq!(
        heard.trim_end(),
        "a word for the guest",
        "{said}\n{console}"
    );
    let copy = fs::read_to_string(home.join("out/copy"));
    assert_eq!(
        copy.unwrap_or_default(),
        "hello from the host\n",
        "{said}\n{console}"
    );
    assert!(home.join("out/done").exists(), "{console}");
    assert!(!home.join("in/intruder").exists(), "{console}");
    let missing = "the credential licence is required and not given (shows what is missing): the \
                   machine lacks it; give it by --credential licence=FILE";
    assert!(said.contains(missing), "{said}");
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
        ("--share", "absent", "absent: No such file"),
        ("--share", "large", "large is no folder"),
        (
            "--share",
            ".:usr",
            "the guest cannot mount at `usr`; write HOST:GUEST",
        ),
    ];
    for (option, value, words) in rows {
        baker
            .run(["run", draft, "--direct", option, value])
            .assert(2, &[words]);
    }
}
