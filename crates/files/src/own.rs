//! Opens files that are written in place. The folder may belong to another user: a link or a pipe in place of a file
//! gives an error that names it; it is never followed or waited for.
use std::{
    fs::{self, File, OpenOptions},
    io::{Error, Result},
    path::Path,
};

/// Opens `path` with `options` if it is an ordinary file or does not exist yet.
pub fn open(path: &Path, options: &mut OpenOptions) -> Result<File> {
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        // A pipe opens at once, with or without a reader, and is refused below.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        std::os::unix::fs::OpenOptionsExt::custom_flags(options, flags.bits() as i32);
    }
    let file = options.open(path).map_err(|e| match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => refused("a link"),
        Ok(found) if !found.is_file() => refused("not an ordinary file"),
        _ => e,
    })?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(refused("not an ordinary file")) }
}

/// Creates the folder `path`, or accepts an existing one that is not a link.
pub fn folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path)?;
    if fs::symlink_metadata(path)?.is_symlink() { Err(refused("a link")) } else { Ok(()) }
}

fn refused(what: &str) -> Error {
    Error::other(format!("it is {what}; only ordinary files and folders are written"))
}
