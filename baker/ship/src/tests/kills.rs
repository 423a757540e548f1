//! Publishers that are killed, at every point that can be hit from outside, and publishers that
//! run at once: afterwards there is the old state or the new one.
//!
//! The publisher is a child process. It speaks to the server through a proxy that counts what goes
//! through, and that kills the child (SIGKILL) at the chosen message, before or after passing it
//! on. A folder has no such wire: there the child kills itself around every call of the target.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use baker_model::{Event, Interrupt, Listener, Silent};
use nix::sys::signal::{Signal, kill, raise};
use nix::unistd::Pid;

use super::fixture::key;
use super::released::{Release, channel, id, one};
use super::servers::{Server, bucket, bucket_at, registry, registry_at};
use super::targets::{arrives, promotion};
use crate::channel::history;
use crate::promote::promote;
use crate::pull::Wanted;
use crate::target::{FolderTarget, Source, Target};
use crate::{TargetError, publish};

/// What the child works on: `folder`, `registry` or `bucket`; unset, the child test does nothing.
const KIND: &str = "BAKER_SHIP_TEST_KIND";
/// Its folder, or its path in the server.
const PLACE: &str = "BAKER_SHIP_TEST_PLACE";
/// The port to speak to.
const PORT: &str = "BAKER_SHIP_TEST_PORT";
/// The registry's certificate authority.
const AUTHORITY: &str = "BAKER_SHIP_TEST_AUTHORITY";
/// At which event of its own the child kills itself.
const KILL_AT: &str = "BAKER_SHIP_TEST_KILL_AT";

/// Where a child publishes, and how its parent looks at it.
struct Site<'a> {
    kind: &'static str,
    place: String,
    server: Option<&'a Server>,
}

impl Site<'_> {
    fn target(&self) -> Box<dyn Target> {
        let port = self.server.map_or(0, |server| server.port());
        let authority = self.server.map(Server::authority).unwrap_or_default();
        target(self.kind, &self.place, port, &authority)
    }

    fn child(&self, port: u16, kill_at: usize) -> Child {
        let authority = self.server.map(Server::authority).unwrap_or_default();
        Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "tests::kills::child_that_publishes_and_promotes",
                "--test-threads=1",
            ])
            .env(KIND, self.kind)
            .env(PLACE, &self.place)
            .env(PORT, port.to_string())
            .env(AUTHORITY, authority)
            .env(KILL_AT, kill_at.to_string())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap()
    }
}

fn target(kind: &str, place: &str, port: u16, authority: &Path) -> Box<dyn Target> {
    match kind {
        "folder" => Box::new(FolderTarget::new(place.into(), Source::Kept)),
        "registry" => Box::new(registry_at(port, place, authority)),
        _ => Box::new(bucket_at(port, place)),
    }
}

/// Kills the process at one of its own events.
struct KillAt(AtomicUsize, usize);

impl Listener for KillAt {
    fn event(&self, _: Event) {
        if self.0.fetch_add(1, Ordering::Relaxed) == self.1 {
            raise(Signal::SIGKILL).unwrap();
        }
    }
}

/// Not a test by itself: what the tests below run and kill.
#[test]
fn child_that_publishes_and_promotes() {
    let variable = |name: &str| std::env::var(name).unwrap();
    let Ok(kind) = std::env::var(KIND) else {
        return;
    };
    let port = variable(PORT).parse().unwrap();
    let target = target(
        &kind,
        &variable(PLACE),
        port,
        &PathBuf::from(variable(AUTHORITY)),
    );
    let listener = KillAt(AtomicUsize::new(0), variable(KILL_AT).parse().unwrap());
    let release = Release::new("1.1.0", "");
    publish(
        &release.verified(),
        target.as_ref(),
        &listener,
        &Interrupt::new(),
    )
    .unwrap();
    listener.event(Event::Note {
        stage: "promote",
        text: String::new(),
    });
    let (trust, key, prod, id) = (one(), key(), channel("prod"), id("1.1.0"));
    let request = promotion(target.as_ref(), &id, &prod, (&trust, &key));
    promote(&request, &Interrupt::new()).unwrap();
    listener.event(Event::Note {
        stage: "promote",
        text: String::new(),
    });
}

/// The old state: 1.0.0 is there, and `prod` points to it.
fn begin(target: &dyn Target, old: &Release) {
    old.publish(target);
    let (trust, key, prod, id) = (one(), key(), channel("prod"), id("1.0.0"));
    promote(
        &promotion(target, &id, &prod, (&trust, &key)),
        &Interrupt::new(),
    )
    .unwrap();
}

/// Which of the two states there is; neither is a panic.
fn state(target: &dyn Target, old: &Release) -> (bool, bool) {
    let new = Release::new("1.1.0", "");
    let is_there = target.record(&id("1.1.0")).unwrap().is_some();
    if is_there {
        arrives(target, &Wanted::Version(id("1.1.0")), &new);
    }
    let entries = history(target, &channel("prod"), &one()).unwrap().entries;
    let has_moved = match entries.len() {
        1 => false,
        2 => true,
        count => panic!("{count} entries"),
    };
    assert!(is_there || !has_moved, "the channel points to nothing");
    let pointed = if has_moved { &new } else { old };
    arrives(target, &Wanted::Channel(channel("prod")), pointed);
    (is_there, has_moved)
}

/// After any state: the next run finishes what was begun.
fn finishes(target: &dyn Target, has_moved: bool) {
    let new = Release::new("1.1.0", "");
    new.publish(target);
    let (trust, key, prod, id) = (one(), key(), channel("prod"), id("1.1.0"));
    if !has_moved {
        promote(
            &promotion(target, &id, &prod, (&trust, &key)),
            &Interrupt::new(),
        )
        .unwrap();
    }
    arrives(target, &Wanted::Channel(prod), &new);
}

/// True when all fixtures are asked for: then every point is hit, and many random times.
fn is_long() -> bool {
    std::env::var("BAKER_FIXTURES").as_deref() == Ok("all")
}

/// How many points to step over: a few are hit in every run.
fn stride(points: usize) -> usize {
    if is_long() {
        1
    } else {
        points.div_ceil(16).max(1)
    }
}

/// Times after the start of a child at which it is killed, spread over a run that takes `whole`:
/// between the points, wherever it happens to be.
fn random_times(whole: Duration) -> Vec<Duration> {
    let count = if is_long() { 64 } else { 3 };
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed();
    let mut state = u64::from(since.unwrap().subsec_nanos()) | 1;
    let mut fraction = || {
        // Xorshift: the times need to be spread, not unpredictable.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        u32::try_from(state % 1000).unwrap()
    };
    (0..count).map(|_| whole * fraction() / 1000).collect()
}

/// What became of one killed run: checks the state it left, and that the next run finishes.
fn judged(site: &Site<'_>, old: &Release, child: Child) -> ((bool, bool), bool) {
    let output = child.wait_with_output().unwrap();
    let was_killed = output.status.signal() == Some(9);
    assert!(was_killed || output.status.success(), "{output:?}");
    let target = site.target();
    let found = state(target.as_ref(), old);
    finishes(target.as_ref(), found.1);
    (found, was_killed)
}

/// Kills children at random times, each at a fresh site.
fn killed_at_random<'a>(site: impl Fn() -> Site<'a>, old: &Release) {
    let whole = site();
    begin(whole.target().as_ref(), old);
    let port = whole.server.map_or(0, |server| server.port());
    let since = Instant::now();
    assert!(whole.child(port, usize::MAX).wait().unwrap().success());
    let times = random_times(since.elapsed());
    let mut seen = Vec::new();
    let mut hit = 0;
    for time in times {
        let site = site();
        begin(site.target().as_ref(), old);
        let mut child = site.child(port, usize::MAX);
        std::thread::sleep(time);
        child.kill().unwrap();
        let (found, was_killed) = judged(&site, old, child);
        hit += usize::from(was_killed);
        seen.push(found);
    }
    let what = format!("killed in {hit} of {} runs at random times", seen.len());
    told(whole.kind, &what, &seen);
}

#[test]
fn killed_at_every_step_a_folder_has_the_old_state_or_the_new() {
    let old = Release::new("1.0.0", "");
    let folder = tempfile::tempdir().unwrap();
    let places = AtomicUsize::new(0);
    let site = || {
        let place = format!("releases{}", places.fetch_add(1, Ordering::Relaxed));
        Site {
            kind: "folder",
            place: folder.path().join(place).to_str().unwrap().to_owned(),
            server: None,
        }
    };
    let mut seen = Vec::new();
    for point in 0.. {
        let site = site();
        begin(site.target().as_ref(), &old);
        let (found, was_killed) = judged(&site, &old, site.child(0, point));
        seen.push(found);
        if !was_killed {
            break;
        }
    }
    let what = format!("killed at {} of {} steps", seen.len() - 1, seen.len() - 1);
    told("folder", &what, &seen);
    assert_eq!(seen.first(), Some(&(false, false)));
    assert_eq!(seen.last(), Some(&(true, true)));
    assert!(seen.contains(&(true, false)), "{seen:?}");
    killed_at_random(site, &old);
}

#[test]
fn killed_on_the_wire_a_registry_has_the_old_state_or_the_new() {
    if let Some(server) = registry() {
        survives_kills("registry", &server);
    }
}

#[test]
fn killed_on_the_wire_a_bucket_has_the_old_state_or_the_new() {
    if let Some(server) = bucket() {
        survives_kills("bucket", &server);
    }
}

fn survives_kills(kind: &'static str, server: &Server) {
    let old = Release::new("1.0.0", "");
    let site = || Site {
        kind,
        place: server.place(),
        server: Some(server),
    };
    // Once without a kill, to know how many messages there are.
    let whole = site();
    begin(whole.target().as_ref(), &old);
    let proxy = Proxy::new(server.port(), usize::MAX);
    let mut child = whole.child(proxy.port, usize::MAX);
    proxy.kills(&child);
    assert!(child.wait().unwrap().success());
    let points = proxy.seen.load(Ordering::SeqCst);
    assert_eq!(state(whole.target().as_ref(), &old), (true, true));
    assert!(points > 50, "{points}");
    let mut seen = Vec::new();
    for point in (0..points).step_by(stride(points)) {
        let site = site();
        begin(site.target().as_ref(), &old);
        let proxy = Proxy::new(server.port(), point);
        let child = site.child(proxy.port, usize::MAX);
        proxy.kills(&child);
        seen.push(judged(&site, &old, child).0);
    }
    let what = format!("killed at {} of {points} messages", seen.len());
    told(kind, &what, &seen);
    assert_eq!(seen.first(), Some(&(false, false)));
    killed_at_random(site, &old);
}

/// The figure for the record: what the states after the kills were.
fn told(kind: &str, what: &str, seen: &[(bool, bool)]) {
    let count = |state: (bool, bool)| seen.iter().filter(|found| **found == state).count();
    eprintln!(
        "{kind}: {what}: {} old, {} published and not promoted, {} new, 0 bad",
        count((false, false)),
        count((true, false)),
        count((true, true)),
    );
}

#[test]
fn of_publishers_that_run_at_once_all_leave_one_whole_release() {
    let folder = tempfile::tempdir().unwrap();
    at_once(&|| {
        Box::new(FolderTarget::new(
            folder.path().join("releases"),
            Source::Kept,
        ))
    });
    if let Some(server) = registry() {
        let place = server.place();
        at_once(&|| Box::new(registry_at(server.port(), &place, &server.authority())));
    }
    if let Some(server) = bucket() {
        let place = server.place();
        at_once(&|| Box::new(bucket_at(server.port(), &place)));
    }
}

/// Two publish the same release and two another one of the same version.
fn at_once(target: &(dyn Fn() -> Box<dyn Target> + Sync)) {
    let releases = [
        Release::new("1.0.0", ""),
        Release::new("1.0.0", "[disk]\nslots = 2\n"),
    ];
    std::thread::scope(|scope| {
        for release in releases.iter().chain(&releases) {
            scope.spawn(move || {
                let result = publish(
                    &release.verified(),
                    target().as_ref(),
                    &Silent,
                    &Interrupt::new(),
                );
                let is_fair = matches!(
                    result,
                    Ok(_) | Err(TargetError::AlreadyThere { .. } | TargetError::Busy { .. })
                );
                assert!(is_fair, "{result:?}");
            });
        }
    });
    let target = target();
    let there = target.record(&id("1.0.0")).unwrap();
    // In a folder, two of one process share its hidden folder and both may have given way.
    let Some(there) = there else {
        releases[0].publish(target.as_ref());
        return;
    };
    let winner = releases
        .iter()
        .find(|release| *release.verified().record() == there);
    arrives(
        target.as_ref(),
        &Wanted::Version(id("1.0.0")),
        winner.unwrap(),
    );
}

/// Passes bytes on between a child and a server, and kills the child at a message.
struct Proxy {
    port: u16,
    seen: Arc<AtomicUsize>,
    victim: Arc<AtomicI32>,
}

impl Proxy {
    fn new(server: u16, kill_at: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (seen, victim) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicI32::new(0)));
        let wire = Wire {
            seen: Arc::clone(&seen),
            victim: Arc::clone(&victim),
            kill_at,
        };
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(("127.0.0.1", server)))
                else {
                    continue;
                };
                let (up, down) = (wire.clone(), wire.clone());
                let pair = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || up.pass(pair.0, pair.1));
                std::thread::spawn(move || down.pass(server, client));
            }
        });
        Self { port, seen, victim }
    }

    /// Whom to kill.
    fn kills(&self, child: &Child) {
        self.victim
            .store(i32::try_from(child.id()).unwrap(), Ordering::SeqCst);
    }
}

#[derive(Clone)]
struct Wire {
    seen: Arc<AtomicUsize>,
    victim: Arc<AtomicI32>,
    kill_at: usize,
}

impl Wire {
    fn pass(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count) = from.read(&mut buffer) {
            if count == 0 {
                break;
            }
            let number = self.seen.fetch_add(1, Ordering::SeqCst);
            // Every other time the message still arrives.
            let is_due = number == self.kill_at;
            if is_due && number.is_multiple_of(2) {
                self.kill();
                break;
            }
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
            if is_due {
                self.kill();
                break;
            }
        }
        drop(to.shutdown(Shutdown::Both));
    }

    fn kill(&self) {
        loop {
            match self.victim.load(Ordering::SeqCst) {
                0 => std::thread::sleep(Duration::from_millis(1)),
                // It may have ended by itself.
                pid => return kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap_or_default(),
            }
        }
    }
}
