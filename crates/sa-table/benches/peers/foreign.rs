//! The peers in C: liburcu and DPDK, if their headers are on this machine.
//!
//! Each is a small file in `peers-c`, compiled when the benchmark begins, into a library of its own that is then loaded: who
//! has neither package (Debian's `liburcu-dev`, `libdpdk-dev`) nor a C compiler loses these rows and nothing else.

use std::ffi::{CString, c_int, c_void};
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use crate::maps::{MapKey, map_churn};
use crate::measure::unbound;
use crate::tables::{Key, Table, Value, batches, value};

/// A peer in C.
pub(crate) trait Peer: Send + Sync + 'static {
    const NAME: &'static str;
    /// What `pkg-config` calls it.
    const PACKAGES: &'static [&'static str];
    /// Its file in `peers-c`.
    const SOURCE: &'static str;

    fn slot() -> &'static OnceLock<Result<Library, String>>;
}

/// liburcu's `rculfhash` with QSBR.
pub(crate) struct Lfht;

impl Peer for Lfht {
    const NAME: &'static str = "liburcu lfht";
    const PACKAGES: &'static [&'static str] = &["liburcu-qsbr", "liburcu-cds"];
    const SOURCE: &'static str = "liburcu.c";

    fn slot() -> &'static OnceLock<Result<Library, String>> {
        static SLOT: OnceLock<Result<Library, String>> = OnceLock::new();
        &SLOT
    }
}

/// DPDK's `rte_hash`, lock-free, in bulk.
pub(crate) struct Dpdk;

impl Peer for Dpdk {
    const NAME: &'static str = "DPDK rte_hash, bulk";
    const PACKAGES: &'static [&'static str] = &["libdpdk"];
    const SOURCE: &'static str = "dpdk.c";

    fn slot() -> &'static OnceLock<Result<Library, String>> {
        static SLOT: OnceLock<Result<Library, String>> = OnceLock::new();
        &SLOT
    }
}

/// The functions of `peer.h`.
pub(crate) struct Library {
    new: unsafe extern "C" fn(u32) -> *mut c_void,
    free: unsafe extern "C" fn(*mut c_void),
    enter: unsafe extern "C" fn(*mut c_void),
    leave: unsafe extern "C" fn(*mut c_void),
    batch: unsafe extern "C" fn(*mut c_void, *const MapKey, usize) -> u64,
    quiescent: unsafe extern "C" fn(*mut c_void),
    insert: unsafe extern "C" fn(*mut c_void, *const MapKey, *const Value) -> c_int,
    remove: unsafe extern "C" fn(*mut c_void, *const MapKey) -> c_int,
}

/// A table of a peer.
pub(crate) struct Foreign<P: Peer> {
    library: &'static Library,
    table: *mut c_void,
    of: std::marker::PhantomData<P>,
}

// SAFETY: the tables are made to be used by many threads at once.
unsafe impl<P: Peer> Sync for Foreign<P> {}

impl<P: Peer> Foreign<P> {
    /// The peer's functions.
    ///
    /// # Errors
    ///
    /// Why it is not measured, in one line.
    pub(crate) fn library() -> Result<&'static Library, &'static str> {
        P::slot()
            .get_or_init(|| {
                let file = compile::<P>()?;
                let library = load(&file)?;
                // A table that cannot be made (no memory, no EAL) is found out now, not in the middle of a run. The first one
                // of DPDK binds the thread that makes it to a processor.
                // SAFETY: as in `build` and `drop`.
                let table = unbound(|| unsafe { (library.new)(64) });
                if table.is_null() {
                    return Err("it does not start here".into());
                }
                // SAFETY: just made, and nobody is entered.
                unsafe { (library.free)(table) };
                Ok(library)
            })
            .as_ref()
            .map_err(String::as_str)
    }

    /// This thread may use the table while `body` runs.
    fn entered<R>(&self, body: impl FnOnce() -> R) -> R {
        // SAFETY: the table exists; leaving follows.
        unsafe { (self.library.enter)(self.table) };
        let result = body();
        // SAFETY: this thread has entered.
        unsafe { (self.library.leave)(self.table) };
        result
    }

    /// The caller has entered.
    fn insert(&self, key: MapKey, value: &Value) -> bool {
        // SAFETY: the table exists, and key and value have the sizes of `peer.h`.
        unsafe { (self.library.insert)(self.table, &raw const key, value) == 0 }
    }
}

impl<P: Peer> Drop for Foreign<P> {
    fn drop(&mut self) {
        // SAFETY: made by this library, and nobody is entered, as nobody borrows it.
        unsafe { (self.library.free)(self.table) };
    }
}

impl<P: Peer> Table for Foreign<P> {
    type Query = MapKey;

    fn name() -> &'static str {
        P::NAME
    }

    fn build(keys: &[Key], spare: usize) -> (Self, Vec<MapKey>) {
        let library = Self::library().expect("only a peer that is there is measured");
        // SAFETY: any capacity will do.
        let table = unsafe { (library.new)((keys.len() + spare) as u32) };
        assert!(!table.is_null(), "{} has no memory for a table", P::NAME);
        let this = Self { library, table, of: std::marker::PhantomData };
        this.entered(|| {
            for (n, key) in (0..).zip(keys) {
                assert!(this.insert(key.map, &value(n)), "{} refuses key {n}", P::NAME);
            }
        });
        (this, keys.iter().map(|key| key.map).collect())
    }

    fn run(&self, _: u32, queries: &[MapKey]) -> u64 {
        self.entered(|| {
            // SAFETY: this thread has entered, and the keys have the size of `peer.h`.
            batches(queries, |batch| unsafe { (self.library.batch)(self.table, batch.as_ptr(), batch.len()) })
        })
    }

    fn churn(&self, _: u32, first: u64, stop: &dyn Fn() -> bool) -> u64 {
        let stop = || {
            // SAFETY: this thread has entered.
            unsafe { (self.library.quiescent)(self.table) };
            stop()
        };
        self.entered(|| {
            map_churn(
                first,
                &stop,
                |key, value| {
                    // Full while a reader is preempted, in the peer that has a limit: not counted against it.
                    let _ = self.insert(key, &value);
                },
                |key| {
                    // SAFETY: as in `insert`.
                    unsafe { (self.library.remove)(self.table, &raw const key) };
                },
            )
        })
    }
}

/// Compiles the peer's file; gives the library's.
fn compile<P: Peer>() -> Result<std::path::PathBuf, String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers-c").join(P::SOURCE);
    let ask = |command: &mut Command| {
        let output =
            command.output().map_err(|_| format!("there is no {}", command.get_program().display()))?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            Err(text.lines().find(|line| !line.trim().is_empty()).unwrap_or("it does not compile").to_owned())
        }
    };
    let packages = ask(Command::new("pkg-config").args(["--cflags", "--libs"]).args(P::PACKAGES))
        .map_err(|_| format!("pkg-config knows no {}", P::PACKAGES.join(", ")))?;
    let folder = std::env::temp_dir().join(format!("sa-table-peers-{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let library = folder.join(P::SOURCE).with_extension("so");
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    ask(Command::new(compiler)
        .args(["-std=gnu11", "-O3", "-shared", "-fPIC", "-Wall", "-Wextra", "-Wl,-z,defs"])
        .arg(&source)
        .args(packages.split_whitespace())
        .arg("-o")
        .arg(&library))?;
    Ok(library)
}

/// Loads a library for ever.
#[cfg(target_os = "linux")]
fn load(file: &Path) -> Result<Library, String> {
    use std::os::unix::ffi::OsStrExt;

    let path = CString::new(file.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
    // SAFETY: a library that `compile` has just made of our own source; what it is linked to runs nothing odd when loaded.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    // Loaded or not, its file is not needed any more.
    if let Some(folder) = file.parent() {
        let _ = std::fs::remove_file(file);
        let _ = std::fs::remove_dir(folder);
    }
    if handle.is_null() {
        // SAFETY: the text that `dlerror` gives is valid until the next call of its kind.
        let why =
            unsafe { libc::dlerror().as_ref().map(|text| std::ffi::CStr::from_ptr(text).to_string_lossy()) };
        return Err(format!("it cannot be loaded: {}", why.unwrap_or_default()));
    }
    let symbol = |name: &std::ffi::CStr| {
        // SAFETY: the handle is good, as it is never closed.
        let address = unsafe { libc::dlsym(handle, name.as_ptr()) };
        if address.is_null() { Err(format!("{name:?} is missing")) } else { Ok(address) }
    };
    // SAFETY: each symbol is the function of that name in `peer.h`, whose prototype the field's type repeats.
    unsafe {
        use std::mem::transmute as function;
        Ok(Library {
            new: function::<*mut c_void, unsafe extern "C" fn(u32) -> *mut c_void>(symbol(c"peer_new")?),
            free: function::<*mut c_void, unsafe extern "C" fn(*mut c_void)>(symbol(c"peer_free")?),
            enter: function::<*mut c_void, unsafe extern "C" fn(*mut c_void)>(symbol(c"peer_enter")?),
            leave: function::<*mut c_void, unsafe extern "C" fn(*mut c_void)>(symbol(c"peer_leave")?),
            batch: function::<*mut c_void, unsafe extern "C" fn(*mut c_void, *const MapKey, usize) -> u64>(
                symbol(c"peer_batch")?,
            ),
            quiescent: function::<*mut c_void, unsafe extern "C" fn(*mut c_void)>(symbol(c"peer_quiescent")?),
            insert: function::<
                *mut c_void,
                unsafe extern "C" fn(*mut c_void, *const MapKey, *const Value) -> c_int,
            >(symbol(c"peer_insert")?),
            remove: function::<*mut c_void, unsafe extern "C" fn(*mut c_void, *const MapKey) -> c_int>(
                symbol(c"peer_remove")?,
            ),
        })
    }
}

#[cfg(not(target_os = "linux"))]
fn load(_: &Path) -> Result<Library, String> {
    Err("the peers in C run on Linux only".into())
}
