//! Opening files that are written in place. A folder may be somebody else's: a link or a pipe in the place of a file is
//! refused by name, and never followed or waited for.
use std::{
    fs::{self, File, OpenOptions},
    io::{Error, Result},
    path::Path,
};

/// Opens `path` as `options` say, where it is an ordinary file or does not exist yet.
pub fn open(path: &Path, options: &mut OpenOptions) -> Result<File> {
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        // A pipe is opened at once, whether or not somebody reads it, and refused below.
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

/// Makes the folder `path`, or accepts an existing one that is not a link.
pub fn folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path)?;
    if fs::symlink_metadata(path)?.is_symlink() { Err(refused("a link")) } else { Ok(()) }
}

fn refused(what: &str) -> Error {
    Error::other(format!("it is {what}, and only ordinary files and folders are written"))
}
