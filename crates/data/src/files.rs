//! Opens files of any kind safely.
use std::{fs, io::Read, path::Path};

use heterodyne_nn::{Error, Result};
use rustix::fs::{Mode, OFlags};

/// Opens a regular file. A named pipe, a socket or a device is refused without waiting for it.
///
/// # Errors
/// The file is not a regular file, or cannot be opened.
pub(crate) fn open(path: &Path) -> Result<fs::File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file: fs::File =
        rustix::fs::open(path, flags, Mode::empty()).map_err(|e| Error::file(path, std::io::Error::from(e)))?.into();
    let kind = file.metadata().map_err(|e| Error::file(path, e))?.file_type();
    if kind.is_file() {
        Ok(file)
    } else {
        Err(Error::file(path, format!("is {}, not a regular file; remove it", what(kind))))
    }
}

/// Reads all bytes of a regular file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    let mut file = open(path)?;
    let length = file.metadata().map_or(0, |about| about.len());
    let mut bytes = Vec::new();
    // A file that claims to be larger than the memory gives an error here.
    bytes.try_reserve_exact(usize::try_from(length).unwrap_or(usize::MAX)).map_err(|e| Error::file(path, e))?;
    file.read_to_end(&mut bytes).map_err(|e| Error::file(path, e))?;
    Ok(bytes)
}

/// Reads the text of a regular file, without a byte order mark.
pub(crate) fn text(path: &Path) -> Result<String> {
    let text = String::from_utf8(read(path)?).map_err(|e| {
        Error::file(path, format!("is not UTF-8 text (byte {}); save it as UTF-8", e.utf8_error().valid_up_to()))
    })?;
    Ok(text.strip_prefix('\u{feff}').map_or_else(|| text.clone(), str::to_owned))
}

/// Reads the first bytes of a regular file.
pub(crate) fn head(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(64).read_to_end(&mut bytes).map_err(|e| Error::file(path, e))?;
    Ok(bytes)
}

/// Names the kind of a file that is not regular.
pub(crate) fn what(kind: fs::FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_block_device() || kind.is_char_device() {
        "a device"
    } else {
        "a special file"
    }
}
