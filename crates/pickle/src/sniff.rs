//! Recognises the type of a file from its first bytes, whatever its name.
use std::{fmt, io::Read, path::Path};

use crate::{Fault, file::Reader};

/// Number of bytes that are inspected: up to the magic of a tar header.
pub const HEAD: usize = 512;

/// Maximum length of text in a message, in characters.
const SHOWN: usize = 100;

/// The type of a file that is given as weights.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Content {
    /// A zip archive: `torch.save` of PyTorch 1.6 and later, TorchScript, PT2.
    Zip,
    /// A pickle; before PyTorch 1.6, followed by raw storages.
    Pickle,
    /// A safetensors file.
    Safetensors,
    /// The beginning of a JSON file: an index of files, or a server's answer instead of a file.
    Json(String),
    /// An empty file.
    Empty,
    /// Another known type; the text describes it and says what to do.
    Foreign(String),
    /// An unknown type.
    Unknown,
}

/// Other files that are given by mistake: their first bytes and their description.
const FOREIGN: [(&[u8], &str); 9] = [
    (b"<", "a web page or XML, not weights; a download link may have led to a login or error page"),
    (b"version https://git-lfs", "a Git LFS pointer, not the weights themselves; fetch them with `git lfs pull`"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\x1f\x8b", "gzip-compressed; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed; unpack it first"),
    (b"\xfd7zXZ", "xz-compressed; unpack it first"),
    (b"\x89HDF", "an HDF5 file (Keras?), not one of PyTorch"),
    (b"\x93NUMPY", "a NumPy array, not a PyTorch file"),
    (b"GGUF", "a GGUF file, not one of PyTorch"),
];

impl Content {
    /// Looks at the beginning of the regular file `path`.
    ///
    /// # Errors
    /// The file is not a regular file, or cannot be read.
    pub fn of(path: &Path) -> crate::Result<Self> {
        let look = || {
            let file = Reader::open(path)?;
            let length = file.length;
            let mut head = Vec::new();
            file.take(HEAD as u64).read_to_end(&mut head)?;
            Ok(Self::begins(&head, length))
        };
        look().map_err(|fault: Fault| fault.at(path))
    }

    /// The type of a file of `length` bytes that begins with `head`, which has at least [`HEAD`] bytes or all of them.
    #[must_use]
    pub fn begins(head: &[u8], length: u64) -> Self {
        if head.is_empty() {
            return Self::Empty;
        }
        if head.starts_with(b"PK\x03\x04") {
            return Self::Zip;
        }
        if head.get(257..262) == Some(b"ustar") {
            return Self::Foreign(
                "a tar archive: unpack it, or, if PyTorch 0.1 wrote it, load and save it once with a current \
                 PyTorch"
                    .into(),
            );
        }
        let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
        if let Some((_, what)) = FOREIGN.iter().find(|(start, _)| text.starts_with(start)) {
            return Self::Foreign((*what).into());
        }
        if is_safetensors(head, length) {
            return Self::Safetensors;
        }
        // PROTO with a protocol of Python 3; the reader judges the rest.
        if head[0] == 0x80 {
            return Self::Pickle;
        }
        match shown(text) {
            Some(words) if text.starts_with(b"{") || text.starts_with(b"[") => Self::Json(words),
            Some(words) => Self::Foreign(format!("plain text, not weights (`{words}`)")),
            None => Self::Unknown,
        }
    }

    /// The description of a file that is not in a format for weights; `None` for those formats and for unknown files.
    #[must_use]
    pub fn foreign(&self) -> Option<String> {
        match self {
            Self::Json(text) => Some(format!("JSON, not weights (`{text}`); a server may have answered with an error")),
            Self::Empty => Some("empty; was the download or the copy cut short?".into()),
            Self::Foreign(what) => Some(what.clone()),
            Self::Zip | Self::Pickle | Self::Safetensors | Self::Unknown => None,
        }
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Zip => "a zip archive, as written by torch.save",
            Self::Pickle => "a pickle, as written by older versions of torch.save",
            Self::Safetensors => "a safetensors file",
            Self::Unknown => "of an unknown format",
            Self::Json(_) | Self::Empty | Self::Foreign(_) => return f.write_str(&self.foreign().unwrap_or_default()),
        })
    }
}

/// The beginning of a text on one line; `None` if it is not text.
fn shown(head: &[u8]) -> Option<String> {
    let valid = match std::str::from_utf8(head) {
        Ok(text) => text,
        // The last character may be cut off.
        Err(e) if e.error_len().is_none() => std::str::from_utf8(&head[..e.valid_up_to()]).ok()?,
        Err(_) => return None,
    };
    // A few bytes of any data may look like letters.
    if (valid.len() < 4 && !valid.starts_with(['{', '[']))
        || valid.chars().any(|c| c.is_control() && !c.is_whitespace())
    {
        return None;
    }
    let line = valid.split_whitespace().collect::<Vec<_>>().join(" ");
    let cut: String = line.chars().take(SHOWN).collect();
    Some(if cut.len() < line.len() { cut + ".." } else { cut })
}

/// The two containers of `torch.save`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// A zip archive: PyTorch 1.6 and later.
    Zip,
    /// Pickles followed by raw storages: before PyTorch 1.6.
    Legacy,
}

/// The container of a file of `length` bytes that begins with `head`, or an error that says what it is instead.
pub fn sniff(head: &[u8], length: u64) -> Result<Container, Fault> {
    match Content::begins(head, length) {
        Content::Zip => Ok(Container::Zip),
        Content::Pickle => Ok(Container::Legacy),
        Content::Empty => Err(Fault::Short("it is empty".into())),
        Content::Safetensors => Err(Fault::Foreign("a safetensors file, not one of torch.save".into())),
        _ if b"PK\x03\x04".starts_with(head) => Err(Fault::Short(format!("it has {length} bytes"))),
        Content::Unknown => {
            Err(Fault::Foreign("neither a zip archive nor a pickle, the two containers that torch.save writes".into()))
        }
        other => Err(Fault::Foreign(other.to_string())),
    }
}

/// Whether `head` is the 64-bit length of a JSON header, then the header.
fn is_safetensors(head: &[u8], length: u64) -> bool {
    let Some((size, header)) = head.split_first_chunk() else { return false };
    header.starts_with(b"{") && u64::from_le_bytes(*size) <= length
}
