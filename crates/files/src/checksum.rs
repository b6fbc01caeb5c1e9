//! The checksum in files that we write: `"checksum": "crc32:0123abcd"`, the CRC-32 of the whole file with those eight
//! digits set to zero. In a safetensors file it is a metadata entry and covers names, shapes, metadata and values. In a
//! JSON file it is the first key. A file without a checksum may come from any program.
use std::{
    fs::File,
    io::{Read, Seek, SeekFrom, Write},
    ops::Range,
};

/// The metadata key.
pub const KEY: &str = "checksum";

const PREFIX: &str = "crc32:";
const ZEROS: &[u8; 8] = b"00000000";
/// The key as JSON writes it. Inside a string the quotes would be escaped, so this is always a key or a whole string.
const MARK: &[u8] = b"\"checksum\"";
/// The beginning of the value.
const OPENING: &[u8] = b"\"crc32:";
/// Number of bytes read at a time.
const PIECE: usize = 1 << 20;

/// The value before the sum is known.
#[must_use]
pub fn blank() -> String {
    format!("{PREFIX}00000000")
}

/// The position of a checksum in the text.
struct Entry {
    /// Range of key and value.
    whole: Range<usize>,
    digits: Range<usize>,
}

/// The first checksum in `text`.
fn entry(text: &[u8]) -> Option<Entry> {
    let start = find(text, MARK)?;
    let space = |at: usize| at + text.iter().skip(at).take_while(|b| b.is_ascii_whitespace()).count();
    let colon = space(start + MARK.len());
    let value = space(colon + 1);
    let digits = value + OPENING.len()..value + OPENING.len() + ZEROS.len();
    let whole = text.get(colon) == Some(&b':')
        && text.get(value..digits.start) == Some(OPENING)
        && text.get(digits.end) == Some(&b'"');
    whole.then(|| Entry { whole: start..digits.end + 1, digits })
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|found| found == part)
}

/// Replaces the zeros in `head` with the checksum of `head` and the `parts` after it.
pub fn seal<'a>(head: &mut [u8], parts: impl Iterator<Item = &'a [u8]>) {
    let mut hash = crc32fast::Hasher::new();
    hash.update(head);
    parts.for_each(|part| hash.update(part));
    put(head, hash.finalize());
}

fn put(head: &mut [u8], sum: u32) {
    if let Some(Entry { digits, .. }) = entry(head) {
        head[digits].copy_from_slice(format!("{sum:08x}").as_bytes());
    }
}

/// As [`seal`], for a file that was written piecewise and begins with `head`.
pub fn seal_file(file: &mut File, mut head: Vec<u8>) -> std::io::Result<()> {
    file.seek(SeekFrom::Start(0))?;
    let (mut hash, mut piece) = (crc32fast::Hasher::new(), vec![0; PIECE]);
    loop {
        match file.read(&mut piece)? {
            0 => break,
            n => hash.update(&piece[..n]),
        }
    }
    put(&mut head, hash.finalize());
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&head)
}

/// Whether the file `bytes` is unchanged. Its tensors begin at `data`; `claimed` is the checksum in its metadata.
#[must_use]
pub fn holds(bytes: &[u8], data: usize, claimed: &str) -> bool {
    entry(&bytes[..data]).is_some_and(|Entry { digits, .. }| claimed == format!("{PREFIX}{:08x}", sum(bytes, &digits)))
}

/// The CRC-32 of `bytes` with zeros in place of `digits`.
fn sum(bytes: &[u8], digits: &Range<usize>) -> u32 {
    let mut hash = crc32fast::Hasher::new();
    hash.update(&bytes[..digits.start]);
    hash.update(ZEROS);
    hash.update(&bytes[digits.end..]);
    hash.finalize()
}

/// Whether a text file matches its checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Text {
    /// The file has no checksum: it predates checksums or was written by hand.
    Bare,
    /// The file is unchanged; the checksum's key and value are in these bytes.
    Whole(Range<usize>),
    /// The file was changed.
    Changed,
}

/// Checks a JSON file. If only the key or only the value is damaged, the intact half reveals it.
#[must_use]
pub fn check(text: &[u8]) -> Text {
    match entry(text) {
        Some(Entry { whole, digits }) if text[digits.clone()] == *format!("{:08x}", sum(text, &digits)).as_bytes() => {
            Text::Whole(whole)
        }
        None if find(text, MARK).is_none() && find(text, OPENING).is_none() => Text::Bare,
        _ => Text::Changed,
    }
}
