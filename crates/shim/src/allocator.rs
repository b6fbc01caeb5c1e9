//! Tunes the C allocator for steps that allocate the memory that the previous step freed.

/// Keeps freed memory in the process and takes large blocks from the heap too, so the kernel does not map and zero
/// fresh pages at every step. Applies to the whole process; call it at the start. Does nothing unless the allocator is
/// glibc's.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const TOP_PAD: libc::c_int = 64 << 20;
        for (parameter, value) in
            [(libc::M_MMAP_MAX, 0), (libc::M_TRIM_THRESHOLD, libc::c_int::MAX), (libc::M_TOP_PAD, TOP_PAD)]
        {
            // SAFETY: mallopt only changes the allocator's settings and may be called at any time; a rejected value
            // changes nothing.
            unsafe { libc::mallopt(parameter, value) };
        }
    }
}
