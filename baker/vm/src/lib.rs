//! The machine room: from a machine as data to a running QEMU, and from a running guest to a
//! verdict.
//!
//! ```text
//! Machine --argv--> QEMU child --console, probe port, QMP--> Judge --> Verdict, Evidence
//! ```
//!
//! [`smoke`] is the stage: it boots the exact bytes of a disk and judges them. [`run`] boots them
//! for a person. [`Machine::argv`] and `judge` are pure; `session` owns the child and all that
//! waits. What never happens here: a write to the disk under test, a QEMU that outlives baker, a
//! pass without the guest's own word, a read of the process environment outside
//! [`Environment::of_process`].

pub mod accelerator;
pub mod architecture;
mod arguments;
mod argv;
mod child;
pub mod credential;
pub mod environment;
mod errand;
pub mod evidence;
mod http;
pub mod ids;
mod judge;
mod lines;
pub mod machine;
pub mod neighbour;
pub mod outside;
pub mod ovmf;
pub mod parallel;
pub mod patience;
mod probe_guest;
pub mod qemu;
mod qmp;
mod reads;
pub mod report;
mod run;
mod session;
mod share;
pub mod smoke;
mod ssh;
pub mod subject;
#[cfg(test)]
mod testing;
mod tls;
mod tpm;
mod work;

pub use accelerator::{Accelerator, AcceleratorChoice, probe_accelerator};
pub use architecture::Architecture;
pub use arguments::shell_line;
pub use credential::{credential_string, probe_credentials};
pub use environment::Environment;
pub use errand::ErrandMachine;
pub use evidence::{Attempt, CheckFact, Evidence, GuestFacts, Mark, Retry, Shutdown, UnitFact};
pub use machine::{
    Attachment, Boot, DirectBoot, Disk, DiskBus, Display, Extras, Forward, Link, Machine, Network,
    OnReset, ProbeOffer, Sockets, Threads, Tpm, Watchdog, Writes,
};
pub use neighbour::{NEIGHBOUR_MODULES, NeighbourFiles};
pub use outside::Luggage;
pub use ovmf::{Ovmf, OvmfError};
pub use parallel::{Capacity, shared_boots, smoke_all};
pub use patience::Patience;
pub use qemu::{CpuChoice, Qemu, QemuError, Version};
pub use qmp::{MachineEvent, ShutdownCause};
pub use reads::reads;
pub use run::{RunError, run};
pub use share::{Access, Share, ShareError, Sharing};
pub use smoke::{SmokeError, SmokeRequest, Test, Treatment, smoke};
pub use subject::{Medium, MediumFormat, PlanProblem, Sizes, Subject};
