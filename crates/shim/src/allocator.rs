//! The C allocator, told that a step allocates what the step before freed.

/// Keeps freed memory in the process and takes large blocks from the heap too, instead of asking the kernel for fresh
/// pages and zeroing them at every step. For the whole process, at its start; does nothing where the allocator is not
/// glibc's.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const TOP_PAD: libc::c_int = 64 << 20;
        for (parameter, value) in
            [(libc::M_MMAP_MAX, 0), (libc::M_TRIM_THRESHOLD, libc::c_int::MAX), (libc::M_TOP_PAD, TOP_PAD)]
        {
            // SAFETY: mallopt only changes the allocator's settings and may be called at any time; a value that it
            // refuses changes nothing.
            unsafe { libc::mallopt(parameter, value) };
        }
    }
}
