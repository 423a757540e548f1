//! Several smoke tests at once, within a budget of memory and CPUs.
//!
//! Takes requests and the budget; gives the result of each, in their order. The budget is an
//! argument: nothing here looks at the host.

use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;

use baker_model::plan::TestPlan;

use crate::evidence::Evidence;
use crate::neighbour;
use crate::smoke::{SmokeError, SmokeRequest, smoke};
use crate::subject::Subject;

/// What QEMU needs beside the guest's memory: its own code and data, and translated code.
const OVERHEAD_MIB: u64 = 256;

/// What machines may use together.
///
/// CPUs are counted as the guests see them. Under TCG each of them is a thread that runs whenever
/// the guest does, so more guest CPUs than cores make no test faster and every test slower; that
/// is why a host's number of cores is the right budget.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capacity {
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Number of CPUs.
    pub cpus: u32,
}

/// Runs every request, as many at a time as the budget allows; one that exceeds the budget by
/// itself runs alone. They start in their order.
pub fn smoke_all(
    requests: &[SmokeRequest<'_>],
    capacity: Capacity,
) -> Vec<Result<Vec<Evidence>, SmokeError>> {
    let needs: Vec<Capacity> = requests.iter().map(need).collect();
    in_parallel(&needs, capacity, |index| smoke(&requests[index]))
}

/// Which plans can share a boot: groups of places in `plans`, in the order of their first ones.
///
/// Equal machines can, when the probe also gets in alike.
#[must_use]
pub fn shared_boots(subject: &Subject, plans: &[TestPlan]) -> Vec<Vec<usize>> {
    let mut groups: Vec<(_, Vec<usize>)> = Vec::new();
    for (place, plan) in plans.iter().enumerate() {
        // A plan that cannot be answered stays alone: its own request says why.
        let way = subject.probe_way(plan).ok();
        let key = way.map(|way| (plan.shape(), &plan.credentials, &plan.neighbours, way));
        match groups
            .iter_mut()
            .find(|(known, _)| key.is_some() && *known == key)
        {
            Some((_, group)) => group.push(place),
            None => groups.push((key, vec![place])),
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

fn need(request: &SmokeRequest<'_>) -> Capacity {
    let plans = || request.tests.iter().map(|test| test.plan);
    let memory = plans().map(|plan| u64::from(plan.memory_mib)).max();
    let neighbours = plans().map(|plan| plan.neighbours.len()).max();
    let neighbours = neighbours.and_then(|count| u32::try_from(count).ok());
    let neighbours = neighbours.unwrap_or(0);
    let each = u64::from(neighbour::MEMORY_MIB) + OVERHEAD_MIB;
    Capacity {
        memory_mib: memory.unwrap_or(0) + OVERHEAD_MIB + u64::from(neighbours) * each,
        cpus: plans().map(|plan| plan.cpus).max().unwrap_or(0) + neighbours,
    }
}

/// What is in use, and whose turn it is.
struct Desk {
    used: Capacity,
    running: usize,
    next: usize,
}

fn in_parallel<T: Send>(
    needs: &[Capacity],
    capacity: Capacity,
    work: impl Fn(usize) -> T + Sync,
) -> Vec<T> {
    let desk = Mutex::new(Desk {
        used: Capacity::default(),
        running: 0,
        next: 0,
    });
    let changed = Condvar::new();
    let run = |index: usize| {
        let need = needs[index];
        enter(&desk, &changed, index, [need, capacity]);
        let leave = Leave {
            desk: &desk,
            changed: &changed,
            need,
        };
        let result = work(index);
        drop(leave);
        result
    };
    thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> = (0..needs.len())
            .map(|index| scope.spawn(move || run(index)))
            .collect();
        threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect()
    })
}

/// Waits until it is this one's turn and there is room, or nobody else to wait for.
fn enter(desk: &Mutex<Desk>, changed: &Condvar, index: usize, [need, capacity]: [Capacity; 2]) {
    let guard = desk.lock().unwrap_or_else(PoisonError::into_inner);
    let must_wait = |desk: &mut Desk| {
        let memory_mib = desk.used.memory_mib.saturating_add(need.memory_mib);
        let cpus = desk.used.cpus.saturating_add(need.cpus);
        let fits = memory_mib <= capacity.memory_mib && cpus <= capacity.cpus;
        desk.next != index || !(fits || desk.running == 0)
    };
    let mut desk = changed
        .wait_while(guard, must_wait)
        .unwrap_or_else(PoisonError::into_inner);
    desk.next += 1;
    desk.running += 1;
    desk.used.memory_mib = desk.used.memory_mib.saturating_add(need.memory_mib);
    desk.used.cpus = desk.used.cpus.saturating_add(need.cpus);
    changed.notify_all();
}

/// Gives back what was taken, also when the work panics.
struct Leave<'a> {
    desk: &'a Mutex<Desk>,
    changed: &'a Condvar,
    need: Capacity,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        let mut desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
        desk.running -= 1;
        desk.used.memory_mib = desk.used.memory_mib.saturating_sub(self.need.memory_mib);
        desk.used.cpus = desk.used.cpus.saturating_sub(self.need.cpus);
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const fn capacity(memory_mib: u64, cpus: u32) -> Capacity {
        Capacity { memory_mib, cpus }
    }

    #[test]
    fn equal_machines_share_a_boot() {
        let plan = |memory_mib, no_shell| TestPlan {
            memory_mib,
            no_shell,
            console: vec!["login:".into()],
            ..TestPlan::default()
        };
        let plans = [
            plan(512, true),
            plan(256, true),
            plan(512, false),
            plan(256, true),
        ];
        let subject = |carries_probe| Subject {
            medium: None,
            digest: baker_model::Digest::of(b""),
            root_hash: None,
            sizes: crate::Sizes::default(),
            carries_probe,
            probe_disk: Some("/p".into()),
        };
        assert_eq!(
            shared_boots(&subject(true), &plans),
            [vec![0, 2], vec![1, 3]]
        );
        let neighbour = "[[neighbour]]\nname = \"left\"\naddress = \"10.1.0.2/24\"\n";
        let between: TestPlan = toml::from_str(neighbour).unwrap();
        let two = [TestPlan::default(), between.clone(), between];
        assert_eq!(shared_boots(&subject(true), &two), [vec![0], vec![1, 2]]);
        // From outside and from inside are two ways to judge.
        assert_eq!(
            shared_boots(&subject(false), &plans),
            [vec![0], vec![1, 3], vec![2]]
        );
    }

    #[test]
    fn results_keep_their_order_and_the_budget_holds() {
        let (now, most) = (AtomicU32::new(0), AtomicU32::new(0));
        let needs = vec![capacity(512, 2); 6];
        let results = in_parallel(&needs, capacity(1200, 8), |index| {
            let running = now.fetch_add(1, Ordering::SeqCst) + 1;
            most.fetch_max(running, Ordering::SeqCst);
            thread::sleep(std::time::Duration::from_millis(5));
            now.fetch_sub(1, Ordering::SeqCst);
            index
        });
        assert_eq!(results, [0, 1, 2, 3, 4, 5]);
        assert!(most.load(Ordering::SeqCst) <= 2, "memory for two");
    }

    #[test]
    fn what_fits_really_runs_at_once() {
        // Neither gets through alone.
        let together = Barrier::new(2);
        let needs = [capacity(1, 1), capacity(1, 1)];
        in_parallel(&needs, capacity(2, 2), |_| together.wait().is_leader());
    }

    #[test]
    fn one_that_is_too_large_runs_alone() {
        let now = AtomicU32::new(0);
        let needs = [capacity(1, 1), capacity(9, 9), capacity(1, 1)];
        let alone = in_parallel(&needs, capacity(4, 4), |index| {
            let others = now.fetch_add(1, Ordering::SeqCst);
            thread::sleep(std::time::Duration::from_millis(5));
            now.fetch_sub(1, Ordering::SeqCst);
            index != 1 || others == 0
        });
        assert_eq!(alone, [true; 3]);
    }
}
