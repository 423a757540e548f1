//! Neighbours that fall silent, fail or die: QEMU cannot be made to show it, so shell scripts do.

use std::net::Ipv4Addr;

use baker_model::plan::{Outcome, TestPlan};
use tokio::time::sleep;

use super::*;
use crate::machine::Boot;
use crate::testing::{bare_machine, fake_qemu};

const PATIENCE: Duration = Duration::from_secs(60);

/// The neighbour `left` as this script plays it.
fn start(folder: &Path, script: &str) -> Neighbours {
    let plan: TestPlan = toml::from_str(
        "[[neighbour]]\nname = \"left\"\naddress = \"10.1.0.2/24\"\nserves = [80]\n",
    )
    .unwrap();
    let files = NeighbourFiles {
        kernel: "/k".into(),
        initrd: "/i".into(),
    };
    Neighbours::start(&Start {
        qemu: &fake_qemu(folder, script),
        machine: &bare_machine(Boot::Bios),
        files: &files,
        neighbours: &plan.neighbours,
        links: folder,
        work: folder,
    })
    .unwrap()
}

fn reach() -> Reach {
    Reach {
        address: Ipv4Addr::new(10, 2, 0, 2),
        port: 80,
        outcome: Outcome::Answer,
        by: None,
        seen_as: None,
    }
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().unwrap().block_on(work)
}

#[test]
fn orders_are_given_and_answers_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let script = "echo '[0.1] noise'; echo 'baker1 ready'; read a; echo \"$a\" > \"$0.be\"; \
                  echo 'baker1 up'; read b; echo \"$b\" > \"$0.reach\"; \
                  echo 'baker1 reached id=9 end=silent'; echo 'baker1 reached id=1 end=refused'; \
                  echo 'last words'";
    run(async {
        let left = start(folder.path(), script);
        assert_eq!(left.up("left", PATIENCE).await, Ok("it is".to_owned()));
        let end = left.reach("left", &reach(), Duration::from_secs(6)).await;
        assert_eq!(end, Ok(End::Refused));
        // It has ended meanwhile, or is about to: nobody waits for it.
        let end = left.reach("left", &reach(), PATIENCE).await.unwrap_err();
        assert!(
            end.starts_with("the neighbour left is lost: it ended"),
            "{end}"
        );
        let end = left.up("left", PATIENCE).await.unwrap_err();
        assert_eq!(end, "it ended; its last line is `last words`");
        assert!(left.up("right", PATIENCE).await.is_err());
    });
    let said = |ending: &str| {
        let mut files = std::fs::read_dir(folder.path()).unwrap().flatten();
        let file = files.find(|file| file.file_name().to_string_lossy().ends_with(ending));
        std::fs::read_to_string(file.unwrap().path()).unwrap()
    };
    let be = "baker1 be name=left address=10.1.0.2/24 serves=80\n";
    assert_eq!(said(".be"), be);
    let reach = "baker1 reach id=1 target=10.2.0.2:80 milliseconds=6000\n";
    assert_eq!(said(".reach"), reach);
}

#[test]
fn one_that_gives_up_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let script = "echo 'baker1 ready'; echo 'baker1 failed problem=eth0%20did%20not%20appear'; \
                  read a; read b";
    run(async {
        let left = start(folder.path(), script);
        let why = left.up("left", PATIENCE).await;
        assert_eq!(why, Err("eth0 did not appear".to_owned()));
    });
}

#[test]
fn one_that_does_not_start_is_not_waited_for_for_ever_and_none_outlives_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let pid = folder.path().join("pid");
    let script = format!(
        "echo $$ > {0}.new; mv {0}.new {0}; exec sleep 1000",
        pid.display()
    );
    run(async {
        let left = start(folder.path(), &script);
        let not_up = left.up("left", Duration::from_millis(50)).await;
        assert!(not_up.unwrap_err().starts_with("not within"));
        let end = left.reach("left", &reach(), PATIENCE).await.unwrap_err();
        assert_eq!(end, "the neighbour left is not up");
        while !pid.exists() {
            sleep(Duration::from_millis(10)).await;
        }
    });
    let number = std::fs::read_to_string(&pid).unwrap();
    let status = format!("/proc/{}/status", number.trim());
    // Killed; whoever waits for it may come later.
    let lives = || std::fs::read_to_string(&status).is_ok_and(|text| !text.contains("State:\tZ"));
    while lives() {
        std::thread::sleep(Duration::from_millis(10));
    }
}
