//! Starts in a working folder without a name: it was deleted, or its path is too long for the system to report.
//!
//! oneMKL, which is part of libtorch, asks for the folder's name while it is loaded, and ends the process with its own
//! message if there is none. So the process moves to `/` while the libraries are loaded, and returns to its folder
//! before `main`.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod linux {
    use std::{
        ptr,
        sync::atomic::{AtomicI32, Ordering},
    };

    const NONE: libc::c_int = -1;

    /// The folder that was left, or `NONE`.
    static LEFT: AtomicI32 = AtomicI32::new(NONE);

    // The loader calls the functions of the first list before those of any library, and the functions of the second
    // list after all of them.
    #[used]
    #[unsafe(link_section = ".preinit_array")]
    static BEFORE_LIBRARIES: extern "C" fn() = leave;
    #[used]
    #[unsafe(link_section = ".init_array")]
    static AFTER_LIBRARIES: extern "C" fn() = come_back;

    extern "C" fn leave() {
        let mut name = [0; libc::PATH_MAX as usize];
        // SAFETY: system calls on a buffer of the given length and on constants; they need no setup of Rust's or the C
        // library's runtime.
        unsafe {
            if ptr::eq(libc::getcwd(name.as_mut_ptr(), name.len()), ptr::null()) {
                LEFT.store(
                    libc::open(c".".as_ptr(), libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC),
                    Ordering::Relaxed,
                );
                libc::chdir(c"/".as_ptr());
            }
        }
    }

    extern "C" fn come_back() {
        let folder = LEFT.swap(NONE, Ordering::Relaxed);
        if folder != NONE {
            // SAFETY: system calls on a descriptor that `leave` opened and nothing else uses.
            unsafe {
                libc::fchdir(folder);
                libc::close(folder);
            }
        }
    }
}
