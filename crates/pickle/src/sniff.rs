//! What a file is, from its first bytes.
use crate::Fault;

/// How many bytes [`sniff`] wants to see: up to the magic of a tar header.
pub const HEAD: usize = 512;

/// The two containers of `torch.save`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// A zip archive: PyTorch 1.6 and later.
    Zip,
    /// Pickles followed by raw storages: before PyTorch 1.6.
    Legacy,
}

/// What else is given by mistake: how it begins and what it is.
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

/// The container that a file of `length` bytes beginning with `head` is, or what else it is.
pub fn sniff(head: &[u8], length: u64) -> Result<Container, Fault> {
    let foreign = |what: &str| Err(Fault::Foreign(what.into()));
    if head.is_empty() {
        return Err(Fault::Short("it is empty".into()));
    }
    if head.starts_with(b"PK\x03\x04") {
        return Ok(Container::Zip);
    }
    if head.get(257..262) == Some(b"ustar") {
        return foreign("a tar archive: unpack it, or, where PyTorch 0.1 wrote it, load and save it once with a current PyTorch");
    }
    if let Some((_, what)) = FOREIGN.iter().find(|(start, _)| head.trim_ascii_start().starts_with(start)) {
        return foreign(what);
    }
    if is_safetensors(head, length) {
        return foreign("a safetensors file, not one of torch.save; name it *.safetensors");
    }
    // PROTO with a protocol of Python 3; what follows is judged by the reader.
    if head[0] == 0x80 {
        return Ok(Container::Legacy);
    }
    if b"PK\x03\x04".starts_with(head) {
        return Err(Fault::Short(format!("it has {length} bytes")));
    }
    foreign("neither a zip archive nor a pickle, the two containers that torch.save writes")
}

/// A 64-bit length of a JSON header, then the header.
fn is_safetensors(head: &[u8], length: u64) -> bool {
    let Some((size, header)) = head.split_first_chunk() else { return false };
    header.starts_with(b"{") && u64::from_le_bytes(*size) <= length
}
