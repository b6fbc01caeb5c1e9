//! Opening files of a run folder for writing. A folder may be somebody else's: a link or a pipe in the place of a file is refused by name,
//! and never followed or waited for.
use std::{
    fs::{self, File, OpenOptions},
    io,
    path::Path,
};

use crate::{Error, Result};

/// Opens `path` as `options` say, where it is an ordinary file or does not exist yet.
pub fn open(path: &Path, options: &mut OpenOptions) -> Result<File> {
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        // A pipe is opened at once, whether or not somebody reads it, and refused below.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        std::os::unix::fs::OpenOptionsExt::custom_flags(options, flags.bits() as i32);
    }
    let refuse = |what: &str| Error::new(path, format!("is {what}; a run writes ordinary files of its own folder only"));
    let failed = |e: io::Error| match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => refuse("a link"),
        _ => Error::new(path, format!("cannot be opened ({e})")),
    };
    let file = options.open(path).map_err(failed)?;
    if !file.metadata().map_err(|e| Error::new(path, e))?.is_file() {
        return Err(refuse("no ordinary file"));
    }
    Ok(file)
}

/// Makes the folder `path`, or takes the one that is there if it is no link.
pub fn folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|e| Error::new(path, e))?;
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => Err(Error::new(path, "is a link; a run writes into its own folder only")),
        Ok(_) => Ok(()),
        Err(e) => Err(Error::new(path, e)),
    }
}
