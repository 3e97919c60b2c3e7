//! DPDK's environment (EAL): its one start and end, and the threads that poll.

use std::ffi::{CStr, CString, OsStr, c_char, c_int};
use std::marker::PhantomData;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use core_affinity::CoreId;
use mstream_dpdk_sys as sys;

use crate::error::{DpdkError, last_reason, reason};

/// DPDK was started in this process, or somebody is just doing it.
static STARTED: AtomicBool = AtomicBool::new(false);

/// The memory that packet buffers lie in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Huge pages that the system has reserved; nothing of them is left in hugetlbfs.
    HugePages {
        /// MiB that are taken at the start. More is taken when a port needs it.
        mib: u32,
    },
    /// Ordinary pages: no huge pages needed, more TLB misses, no PCI devices.
    OrdinaryPages {
        /// MiB that are taken at the start; there is never more.
        mib: u32,
    },
}

/// What DPDK writes to standard error and syslog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Nothing short of a panic. What fails is in this crate's errors.
    Quiet,
    /// Errors, among them harmless ones of drivers that try something and do without.
    Errors,
    /// Everything that is of use while looking for a fault.
    Debug,
}

/// How DPDK is started.
#[derive(Clone, Debug)]
pub struct EalConfig {
    /// The core that DPDK's own threads run on. Not a core that polls.
    pub control_core: usize,
    /// Where packet buffers lie.
    pub memory: Memory,
    /// Names this process among those that use DPDK: letters, digits, `-` and `_`, at most 64.
    pub name: String,
    /// What DPDK writes.
    pub log: LogLevel,
    /// PCI addresses (`0000:01:00.0`) that DPDK may use. With none it does not look at the PCI bus.
    pub pci: Vec<String>,
    /// Virtual devices that DPDK makes at the start (`net_null0,size=64`). Ports make theirs by
    /// themselves.
    pub vdevs: Vec<String>,
}

impl EalConfig {
    /// DPDK on `control_core` with 256 MiB of ordinary pages, quiet, without PCI, named after the
    /// process's id.
    pub fn new(control_core: usize) -> EalConfig {
        EalConfig {
            control_core,
            memory: Memory::OrdinaryPages { mib: 256 },
            name: format!("mstream-{}", std::process::id()),
            log: LogLevel::Quiet,
            pci: Vec::new(),
            vdevs: Vec::new(),
        }
    }

    /// DPDK's command line.
    fn arguments(&self) -> Result<Vec<CString>, DpdkError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if self.name.is_empty() || self.name.len() > 64 || !self.name.chars().all(plain) {
            return Err(DpdkError::Setting {
                setting: "name",
                value: self.name.clone(),
                allowed: "1 to 64 letters, digits, - and _",
            });
        }
        // The lcore id differs from the core's number: ids end at 127, cores do not.
        let lcores = format!("0@{}", self.control_core);
        let mut all = vec!["mstream", "--lcores", &lcores, "--file-prefix", &self.name];
        let (mib, modes) = match self.memory {
            Memory::HugePages { mib } => (mib, ["--in-memory"]),
            Memory::OrdinaryPages { mib } => (mib, ["--no-huge"]),
        };
        let mib = mib.to_string();
        all.extend(modes);
        all.extend(["-m", &mib, "--no-shconf", "--no-telemetry"]);
        all.push(match self.log {
            LogLevel::Quiet => "--log-level=emergency",
            LogLevel::Errors => "--log-level=error",
            LogLevel::Debug => "--log-level=debug",
        });
        if self.pci.is_empty() {
            // Virtual devices copy: no physical addresses needed, so none of the rights to see them.
            all.extend(["--no-pci", "--iova-mode=va"]);
        }
        for address in &self.pci {
            all.extend(["-a", address]);
        }
        for vdev in &self.vdevs {
            all.extend(["--vdev", vdev]);
        }
        let nul = |argument: &str| DpdkError::Setting {
            setting: "pci or vdevs",
            value: argument.to_owned(),
            allowed: "text without NUL",
        };
        all.into_iter().map(|text| CString::new(text).map_err(|_| nul(text))).collect()
    }
}

/// DPDK, running. Whatever is made of its memory holds it.
#[derive(Debug)]
pub(crate) struct Running {
    /// Devices come and go one at a time: DPDK's device lists are not made for more.
    devices: Mutex<()>,
    names: AtomicU32,
    /// DPDK's memory must stay mapped until the process ends.
    never_unmapped: AtomicBool,
}

impl Running {
    /// Says that a driver left something for DPDK's interrupt thread to look at for good: net_memif
    /// never unregisters a server's socket, which lies in DPDK's memory, and a look at it after DPDK's
    /// end is a SIGSEGV.
    pub(crate) fn never_unmap(&self) {
        self.never_unmapped.store(true, Ordering::Relaxed);
    }

    pub(crate) fn lock_devices(&self) -> MutexGuard<'_, ()> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A name that nothing else in this process has.
    pub(crate) fn fresh_name(&self) -> CString {
        let number = self.names.fetch_add(1, Ordering::Relaxed);
        CString::new(format!("mstream{number}")).unwrap_or_default()
    }
}

/// DPDK, started. One in the life of a process.
///
/// Dropping it ends DPDK if nothing uses it any more, and otherwise leaves it until the process ends;
/// [`Eal::close`] says which.
#[derive(Debug)]
pub struct Eal {
    running: Arc<Running>,
    helper: Option<Helper>,
}

/// The thread that started DPDK and will end it.
#[derive(Debug)]
struct Helper {
    end: Sender<Ending>,
    thread: JoinHandle<c_int>,
}

/// What becomes of DPDK at its end.
#[derive(Debug)]
enum Ending {
    CleanUp,
    /// The process's end does it: there is nothing in the file system.
    Leave,
}

impl Eal {
    /// Starts DPDK on a thread of its own, pinned to the control core; DPDK's own threads stay there too.
    /// The calling thread's affinity stays as it is.
    ///
    /// # Errors
    /// A second start, a setting out of range, or DPDK's refusal with what probably helps.
    pub fn init(config: &EalConfig) -> Result<Eal, DpdkError> {
        let arguments = config.arguments()?;
        if STARTED.swap(true, Ordering::SeqCst) {
            return Err(DpdkError::AlreadyStarted);
        }
        let (end, ended) = mpsc::channel();
        let (started, outcome) = mpsc::channel();
        let core = config.control_core;
        let thread = thread::Builder::new()
            .name("dpdk".into())
            .spawn(move || run(arguments, core, &started, &ended))
            .map_err(DpdkError::Thread)?;
        let refused = match outcome.recv() {
            Ok(Ok(())) => {
                let running = Arc::new(Running {
                    devices: Mutex::new(()),
                    names: 0.into(),
                    never_unmapped: false.into(),
                });
                return Ok(Eal { running, helper: Some(Helper { end, thread }) });
            }
            Ok(Err(refused)) => refused,
            Err(_) => "its thread ended early".into(),
        };
        Err(DpdkError::Start { fix: fix(config, &refused), reason: refused })
    }

    /// Makes the calling thread known to DPDK, so that it has its own cache of every buffer pool. Pin
    /// the thread first.
    ///
    /// # Errors
    /// DPDK's refusal: more threads than it has ids for (128).
    pub fn register_thread(&self) -> Result<ThreadRegistration, DpdkError> {
        // SAFETY: DPDK runs (`self`); it may be called on any thread, also on a registered one.
        if unsafe { sys::rte_thread_register() } != 0 {
            return Err(DpdkError::Register { reason: last_reason() });
        }
        Ok(ThreadRegistration { _running: Arc::clone(&self.running), _this_thread: PhantomData })
    }

    /// Ends DPDK. Ports, their frames and thread registrations must be gone. After a net_memif server
    /// DPDK's threads and memory stay until the process ends.
    ///
    /// # Errors
    /// If they are not, DPDK stays as it is until the process ends.
    pub fn close(mut self) -> Result<(), DpdkError> {
        self.end()
    }

    pub(crate) fn running(&self) -> &Arc<Running> {
        &self.running
    }

    fn end(&mut self) -> Result<(), DpdkError> {
        let Some(helper) = self.helper.take() else { return Ok(()) };
        // Only holders can make new holders, and with one left that one is `self`.
        let holders = Arc::strong_count(&self.running) - 1;
        if holders > 0 {
            // The thread waits for ever: its sender must live on.
            std::mem::forget(helper);
            return Err(DpdkError::InUse { holders });
        }
        // Relaxed: whoever set it has let go of `running` since, which orders the two.
        let leave = self.running.never_unmapped.load(Ordering::Relaxed);
        // Sending fails only if the thread is gone, which joining it shows.
        let _ = helper.end.send(if leave { Ending::Leave } else { Ending::CleanUp });
        match helper.thread.join() {
            Ok(0) => Ok(()),
            Ok(failed) => Err(DpdkError::End { reason: reason(failed) }),
            Err(_) => Err(DpdkError::End { reason: "its thread panicked".into() }),
        }
    }
}

impl Drop for Eal {
    fn drop(&mut self) {
        // Who wants to know calls `close`.
        let _ = self.end();
    }
}

/// A thread that DPDK knows. Dropping it makes DPDK forget the thread; what its pool caches hold stays
/// available to the next thread that registers.
#[derive(Debug)]
pub struct ThreadRegistration {
    _running: Arc<Running>,
    /// Belongs to the thread that made it.
    _this_thread: PhantomData<*const ()>,
}

impl Drop for ThreadRegistration {
    fn drop(&mut self) {
        // SAFETY: DPDK runs (`_running`), and this is the registered thread: the type is not Send.
        unsafe { sys::rte_thread_unregister() };
    }
}

/// The helper's life: starts DPDK, waits for the end, ends it.
fn run(
    arguments: Vec<CString>,
    core: usize,
    started: &Sender<Result<(), String>>,
    end: &Receiver<Ending>,
) -> c_int {
    // DPDK's own threads run where this one may run, so it must be pinned first.
    if !core_affinity::set_for_current(CoreId { id: core }) {
        let _ = started.send(Err(format!("core {core} is not available to this process")));
        return 0;
    }
    // DPDK keeps pointers into its command line and reorders it: it gets one for good.
    let mut argv: Vec<*mut c_char> = arguments.into_iter().map(CString::into_raw).collect();
    let argc = c_int::try_from(argv.len()).unwrap_or(c_int::MAX);
    argv.push(std::ptr::null_mut());
    // SAFETY: argv holds argc pointers to NUL-terminated strings and a null, all leaked; the flag
    // STARTED makes this the only call in the process.
    if unsafe { sys::rte_eal_init(argc, argv.leak().as_mut_ptr()) } < 0 {
        let _ = started.send(Err(last_reason()));
        remove_runtime_folder();
        return 0;
    }
    remove_runtime_folder();
    // Sending fails only if the starter is gone; then `end` is closed too.
    let _ = started.send(Ok(()));
    match end.recv() {
        // SAFETY: DPDK runs, and nothing uses it any more (see `Eal::end`).
        Ok(Ending::CleanUp) => unsafe { sys::rte_eal_cleanup() },
        Ok(Ending::Leave) | Err(_) => 0,
    }
}

/// Removes the folder that DPDK makes at its start, for files that other processes look at. Without
/// shared configuration there are none, and a process that is killed would leave the folder behind.
fn remove_runtime_folder() {
    // SAFETY: returns DPDK's own static string, which the start sets; empty if it did not get so far.
    let text = unsafe { CStr::from_ptr(sys::rte_eal_get_runtime_dir()) };
    // A folder with something in it stays.
    let _ = std::fs::remove_dir(OsStr::from_bytes(text.to_bytes()));
}

/// What probably helps after a failed start.
fn fix(config: &EalConfig, reason: &str) -> String {
    if let Memory::HugePages { mib } = config.memory {
        let free = free_huge_pages();
        let needed = u64::from(mib).div_ceil(2);
        if free < needed {
            return format!(
                "{needed} free huge pages of 2 MiB are needed and {free} are there: write {needed} or more \
                 to /proc/sys/vm/nr_hugepages, or use ordinary pages"
            );
        }
    }
    if reason.contains("ermission") {
        return "run as root, or grant CAP_IPC_LOCK and access to huge pages and devices".into();
    }
    "start with the log level `debug` to see DPDK's own words".into()
}

fn free_huge_pages() -> u64 {
    std::fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}
