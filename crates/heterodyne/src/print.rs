//! Printing that cannot end a run. The standard macros panic if the terminal is gone, the reader of a pipe has ended or
//! the disk is full.
use std::{
    fmt::Arguments,
    io::{self, Write},
    path::Path,
    sync::Mutex,
};

/// The first error of a write to standard output, if there was one.
static LOST: Mutex<Option<io::Error>> = Mutex::new(None);

/// Writes to standard output; keeps an error for [`lost`].
pub fn out(text: Arguments) {
    let mut out = io::stdout().lock();
    if let Err(e) = out.write_fmt(text).and_then(|()| out.flush()) {
        LOST.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get_or_insert(e);
    }
}

/// Writes a line to standard error; ignores errors, as there is nowhere to report them.
pub fn err(text: Arguments) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// The error that made standard output incomplete. A reader that stops early (`| head`) does not count.
#[must_use]
pub fn lost() -> Option<io::Error> {
    LOST.lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
        .take()
        .filter(|e| e.kind() != io::ErrorKind::BrokenPipe)
}

/// A word or a path for a shell, quoted if need be.
pub fn quoted(word: impl AsRef<Path>) -> String {
    let word = word.as_ref().display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "_@%+=:,./-".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word } else { format!("'{}'", word.replace('\'', r"'\''")) }
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
