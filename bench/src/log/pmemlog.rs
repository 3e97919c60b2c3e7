//! PMDK's libpmemlog as a peer (libpmemlog(7)): loaded where it is installed, nothing of it is linked.

use std::ffi::{CStr, CString, c_char, c_int, c_long, c_void};
use std::os::unix::process::CommandExt;
use std::path::Path;

use libloading::{Library, Symbol};

use crate::Failure;

/// Debian's libpmemlog1 has it.
const LIBRARY: &str = "libpmemlog.so.1";
/// Makes PMDK take any memory for persistent, so that it flushes instead of calling msync.
const FORCE: &str = "PMEM_IS_PMEM_FORCE";
/// What the library asks for at least.
const LEAST_BYTES: u64 = 2 << 20;

/// struct iovec (readv(2)).
#[derive(Clone, Copy)]
#[repr(C)]
struct Part {
    base: *const c_void,
    len: usize,
}

type Create = unsafe extern "C" fn(*const c_char, usize, u32) -> *mut c_void;
type Append = unsafe extern "C" fn(*mut c_void, *const c_void, usize) -> c_int;
type AppendV = unsafe extern "C" fn(*mut c_void, *const Part, c_int) -> c_int;
type Rewind = unsafe extern "C" fn(*mut c_void);
type Close = unsafe extern "C" fn(*mut c_void);
type Tell = unsafe extern "C" fn(*mut c_void) -> c_long;
type Message = unsafe extern "C" fn() -> *const c_char;

/// A log of libpmemlog's.
pub(super) struct Pmemlog {
    library: Library,
    pool: *mut c_void,
    append: Append,
    append_v: AppendV,
    parts: Vec<Part>,
}

/// Starts this program again with PMDK told to take the memory as it is; returns if it was told already.
pub(super) fn force_pmem() -> Result<(), Failure> {
    if std::env::var_os(FORCE).is_some() {
        return Ok(());
    }
    let this = std::env::current_exe().map_err(|error| format!("own path: {error}"))?;
    let error =
        std::process::Command::new(this).args(std::env::args_os().skip(1)).env(FORCE, "1").exec();
    Err(format!("starting again with {FORCE}=1: {error}"))
}

impl Pmemlog {
    /// A new log of `bytes` bytes in the file `path`.
    pub(super) fn create(path: &Path, bytes: u64) -> Result<Pmemlog, Failure> {
        // SAFETY: the library's own initialisers, which have no preconditions.
        let library = unsafe { Library::new(LIBRARY) }
            .map_err(|error| format!("{LIBRARY}: {error} (Debian's package libpmemlog1 has it)"))?;
        let missing = |error: libloading::Error| format!("{LIBRARY}: {error}");
        // SAFETY: the functions have the types that libpmemlog(7) states; the pointers are copied out and used only
        // while `library` lives, which is kept beside them.
        let (create, append, append_v) = unsafe {
            let create: Symbol<'_, Create> = library.get(b"pmemlog_create").map_err(missing)?;
            let append: Symbol<'_, Append> = library.get(b"pmemlog_append").map_err(missing)?;
            let append_v: Symbol<'_, AppendV> = library.get(b"pmemlog_appendv").map_err(missing)?;
            (*create, *append, *append_v)
        };
        let name = path.as_os_str().as_encoded_bytes();
        let name = CString::new(name).map_err(|error| format!("{}: {error}", path.display()))?;
        // SAFETY: `name` is a C string that outlives the call.
        let pool = unsafe { create(name.as_ptr(), bytes.max(LEAST_BYTES) as usize, 0o600) };
        let log = Pmemlog { library, pool, append, append_v, parts: Vec::new() };
        if pool.is_null() {
            return Err(format!("{}: pmemlog_create: {}", path.display(), log.message()));
        }
        Ok(log)
    }

    /// Appends records, `burst` at a time behind one fence.
    pub(super) fn run(&mut self, payload: &[u8], records: u64, burst: u64) -> Result<(), Failure> {
        let part = Part { base: payload.as_ptr().cast(), len: payload.len() };
        self.parts.clear();
        self.parts.resize(burst as usize, part);
        for _ in 0..records / burst {
            // SAFETY: the pool is open; the parts point to `payload`, which outlives the calls; the library
            // only reads them.
            let appended = unsafe {
                match burst {
                    1 => (self.append)(self.pool, part.base, part.len),
                    _ => (self.append_v)(self.pool, self.parts.as_ptr(), self.parts.len() as c_int),
                }
            };
            if appended != 0 {
                return Err(format!("pmemlog_append: {}", self.message()));
            }
        }
        let written = self.call::<Tell, _>(b"pmemlog_tell", |tell| {
            // SAFETY: the pool is open.
            unsafe { tell(self.pool) }
        })?;
        let expected = records * payload.len() as u64;
        if written as u64 != expected {
            return Err(format!("pmemlog_tell: {written} bytes, but {expected} were appended"));
        }
        Ok(())
    }

    /// Empties the log.
    pub(super) fn rewind(&mut self) -> Result<(), Failure> {
        self.call::<Rewind, _>(b"pmemlog_rewind", |rewind| {
            // SAFETY: the pool is open.
            unsafe { rewind(self.pool) }
        })
    }

    fn call<F: Copy, T>(&self, name: &[u8], with: impl FnOnce(F) -> T) -> Result<T, Failure> {
        // SAFETY: callers name a function with the type that libpmemlog(7) states.
        let function: Symbol<'_, F> =
            unsafe { self.library.get(name) }.map_err(|error| format!("{LIBRARY}: {error}"))?;
        Ok(with(*function))
    }

    fn message(&self) -> String {
        let text = self.call::<Message, _>(b"pmemlog_errormsg", |message| {
            // SAFETY: the library returns a C string that is its own until its next call in this thread.
            unsafe { CStr::from_ptr(message()) }.to_string_lossy().into_owned()
        });
        text.unwrap_or_else(|failure| failure)
    }
}

impl Drop for Pmemlog {
    fn drop(&mut self) {
        if !self.pool.is_null() {
            let _ = self.call::<Close, _>(b"pmemlog_close", |close| {
                // SAFETY: the pool is open and not used afterwards.
                unsafe { close(self.pool) }
            });
        }
    }
}
