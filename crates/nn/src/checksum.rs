//! The checksum that a safetensors file written here carries in its metadata: `"checksum": "crc32:0123abcd"`, the CRC-32 of the whole
//! file with those eight digits as zeros. It covers names, shapes and metadata as well as values; a file without one is anybody's.
use std::{
    fs::File,
    io::{Read, Seek, SeekFrom, Write},
    ops::Range,
};

/// The metadata key.
pub const KEY: &str = "checksum";

const PREFIX: &str = "crc32:";
const ZEROS: &[u8; 8] = b"00000000";
/// Inside of a string of JSON the quotes would be escaped, so this is the key and nothing else.
const MARK: &[u8] = b"\"checksum\":\"crc32:";
/// Bytes that are read at a time.
const PIECE: usize = 1 << 20;

/// The metadata's value before the sum is known.
pub fn blank() -> String {
    format!("{PREFIX}00000000")
}

/// The place of the digits in what stands before the tensors.
fn digits(head: &[u8]) -> Option<Range<usize>> {
    let start = head.windows(MARK.len()).position(|part| part == MARK)? + MARK.len();
    (start + ZEROS.len() <= head.len()).then_some(start..start + ZEROS.len())
}

/// Replaces the zeros in `head` by the sum of it and the `parts` behind it.
pub fn seal<'a>(head: &mut [u8], parts: impl Iterator<Item = &'a [u8]>) {
    let mut hash = crc32fast::Hasher::new();
    hash.update(head);
    parts.for_each(|part| hash.update(part));
    put(head, hash.finalize());
}

fn put(head: &mut [u8], sum: u32) {
    if let Some(place) = digits(head) {
        head[place].copy_from_slice(format!("{sum:08x}").as_bytes());
    }
}

/// As [`seal`], for a file that was written piece by piece and begins with `head`.
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

/// Whether the file `bytes`, whose tensors begin at `data` and whose metadata claim `claimed`, is what was written.
pub fn holds(bytes: &[u8], data: usize, claimed: &str) -> bool {
    let Some(place) = digits(&bytes[..data]) else { return false };
    let mut hash = crc32fast::Hasher::new();
    hash.update(&bytes[..place.start]);
    hash.update(ZEROS);
    hash.update(&bytes[place.end..]);
    claimed == format!("{PREFIX}{:08x}", hash.finalize())
}
