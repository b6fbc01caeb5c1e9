//! Printing that cannot end a run. The standard macros panic where the terminal has gone away, the reader of a pipe has
//! ended or the disk is full.
use std::{
    fmt::Arguments,
    io::{self, Write},
    sync::Mutex,
};

/// Why standard output lost something, where it did.
static LOST: Mutex<Option<io::Error>> = Mutex::new(None);

/// Writes to standard output; a failure is kept for [`lost`].
pub fn out(text: Arguments) {
    let mut out = io::stdout().lock();
    if let Err(e) = out.write_fmt(text).and_then(|()| out.flush()) {
        LOST.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get_or_insert(e);
    }
}

/// Writes a line to standard error; nobody can be told of a failure.
pub fn err(text: Arguments) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Why standard output is not whole. A reader that had enough (`| head`) is no fault.
#[must_use]
pub fn lost() -> Option<io::Error> {
    LOST.lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
        .take()
        .filter(|e| e.kind() != io::ErrorKind::BrokenPipe)
}

/// `println!` that cannot panic.
macro_rules! say {
    ($($part:tt)*) => { $crate::print::out(format_args!("{}\n", format_args!($($part)*))) };
}

/// `print!` that cannot panic.
macro_rules! say_part {
    ($($part:tt)*) => { $crate::print::out(format_args!($($part)*)) };
}

/// `eprintln!` that cannot panic.
macro_rules! tell {
    ($($part:tt)*) => { $crate::print::err(format_args!($($part)*)) };
}

pub(crate) use {say, say_part, tell};
