//! Finds pictures in folders, counts the files that are skipped and collects those that cannot be taken.
use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use heterodyne_nn::{Error, Result};

use crate::{decode, files};

/// Suffixes of supported formats; such files are taken without checking their content.
const READ: [&str; 12] = ["jpg", "jpeg", "jpe", "jfif", "pjpeg", "pjp", "png", "webp", "gif", "bmp", "tif", "tiff"];
/// Suffixes of unsupported picture formats; skipping them silently would change the dataset.
const NOT_READ: [&str; 12] = ["avif", "heic", "heif", "jxl", "jp2", "j2k", "ppm", "pgm", "pbm", "pnm", "exr", "dng"];
/// Files that systems and programs leave in folders, besides names with a leading dot.
const SYSTEM: [&str; 10] = [
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "icon\r",
    "__macosx",
    "@eadir",
    "#recycle",
    "$recycle.bin",
    "system volume information",
    "lost+found",
];
/// Deeper nesting suggests a loop of links.
const MAX_DEPTH: usize = 16;
/// Maximum number of skipped files that a message names.
const NAMED: usize = 3;

/// The files that are not taken.
#[derive(Debug, Default)]
pub(super) struct LeftOut {
    /// What must be mended first: skipping it silently would change the dataset.
    pub faults: Vec<Error>,
    /// Number of files that are not pictures.
    others: usize,
    /// The first of them.
    named: Vec<PathBuf>,
    /// Number of hidden and system files and folders.
    system: usize,
}

impl LeftOut {
    pub(super) fn file(&mut self, path: PathBuf) {
        self.others += 1;
        if self.named.len() < NAMED {
            self.named.push(path);
        }
    }

    /// Describes the skipped files, with names relative to `root`; empty if there are none.
    pub(super) fn text(&self, root: &Path) -> String {
        let mut parts = Vec::new();
        if self.others > 0 {
            let names: Vec<_> =
                self.named.iter().map(|path| path.strip_prefix(root).unwrap_or(path).display().to_string()).collect();
            let more = if self.others > names.len() { ", .." } else { "" };
            parts.push(format!("{} {} ({}{more})", self.others, plural(self.others, "other file"), names.join(", ")));
        }
        if self.system > 0 {
            parts.push(format!(
                "{} hidden or system {}",
                self.system,
                plural(self.system, "entry").replace("entrys", "entries")
            ));
        }
        if parts.is_empty() { String::new() } else { format!("; left out: {}", parts.join(" and ")) }
    }
}

/// The singular or plural of `word` for `count`.
pub(super) fn plural(count: usize, word: &str) -> String {
    if count == 1 { word.to_owned() } else { format!("{word}s") }
}

/// What is in a folder.
#[derive(Debug)]
pub(super) enum Entry {
    Folder(PathBuf),
    Picture(PathBuf),
}

/// The folders and pictures in `folder`, sorted by name; the rest is counted. Its faults: a folder that cannot be
/// listed, an entry that is neither file nor folder, pictures of a format that is not read.
pub(super) fn list(folder: &Path, left: &mut LeftOut) -> Vec<Entry> {
    let listed = fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let mut found = listed.unwrap_or_else(|e| {
        left.faults.push(Error::file(folder, e));
        Vec::new()
    });
    let all = found.len();
    found.retain(|entry| !is_system(&entry.file_name()));
    left.system += all - found.len();
    found.sort_by_key(fs::DirEntry::file_name);
    let mut entries = Vec::with_capacity(found.len());
    for entry in found {
        match recognise(&entry) {
            Ok(Some(entry)) => entries.push(entry),
            Ok(None) => left.file(entry.path()),
            Err(fault) => left.faults.push(fault),
        }
    }
    entries
}

/// What an entry is; `None` for a file that is not a picture.
fn recognise(entry: &fs::DirEntry) -> Result<Option<Entry>> {
    let path = entry.path();
    let mut kind = entry.file_type().map_err(|e| Error::file(&path, e))?;
    if kind.is_symlink() {
        let target = fs::metadata(&path);
        kind = target.map_err(|e| Error::file(&path, format!("is a broken link ({e}); fix or remove it")))?.file_type();
    }
    if kind.is_dir() {
        return Ok(Some(Entry::Folder(path)));
    }
    if !kind.is_file() {
        return Err(Error::file(&path, format!("is {}, not a picture; remove it", files::what(kind))));
    }
    Ok(is_picture(&path)?.then_some(Entry::Picture(path)))
}

/// All pictures in and below a folder, sorted by name within each folder; a sub-folder sorts by its own name.
pub(super) fn pictures(folder: &Path, left: &mut LeftOut) -> Vec<PathBuf> {
    let mut found = Vec::new();
    collect(folder, 0, &mut found, left);
    found
}

fn collect(folder: &Path, depth: usize, found: &mut Vec<PathBuf>, left: &mut LeftOut) {
    if depth == MAX_DEPTH {
        let message = format!("is more than {MAX_DEPTH} folders deep; is there a loop of links?");
        left.faults.push(Error::file(folder, message));
        return;
    }
    for entry in list(folder, left) {
        match entry {
            Entry::Folder(path) => collect(&path, depth + 1, found, left),
            Entry::Picture(path) => found.push(path),
        }
    }
}

/// The sub-folders of a folder without system folders, sorted; files are ignored.
pub(super) fn folders(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| Error::file(folder, e))? {
        let entry = entry.map_err(|e| Error::file(folder, e))?;
        if !is_system(&entry.file_name()) && entry.path().is_dir() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// Whether a name is hidden or that of a system file.
pub(super) fn is_system(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with('.') || SYSTEM.contains(&name.to_lowercase().as_str())
}

/// Whether a regular file is a picture: by its suffix, else by its content.
fn is_picture(path: &Path) -> Result<bool> {
    let suffix = path.extension().and_then(OsStr::to_str).map(str::to_ascii_lowercase).unwrap_or_default();
    if READ.contains(&suffix.as_str()) {
        return Ok(true);
    }
    if NOT_READ.contains(&suffix.as_str()) {
        return Err(Error::file(
            path,
            format!("{suffix} pictures are not supported; convert it to JPEG or PNG, or remove it"),
        ));
    }
    Ok(decode::format(&files::head(path)?).is_some())
}
