//! Files that are given by mistake are named.
use std::fs;

use heterodyne_pickle::read;

use crate::support::Scratch;

#[test]
fn other_files_are_named() {
    let mut tar = vec![0; 1024];
    tar[257..262].copy_from_slice(b"ustar");
    let cases: [(&[u8], &str); 18] = [
        (b"", "it is empty); was the download cut short?"),
        (b"P", "it has 1 bytes"),
        (b"<!DOCTYPE html><html></html>", "a web page"),
        (b"\n <html>", "a web page"),
        (b"version https://git-lfs/spec/v1\noid sha256:00\nsize 5\n", "Git LFS pointer"),
        (b"\x02\0\0\0\0\0\0\0{}", "a safetensors file"),
        (b"\x80\0\0\0\0\0\0\0{", "pickle protocol 0"),
        (b"\x1f\x8b\x08\0", "gzip"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "an empty zip archive"),
        (b"\xef\xbb\xbf<!DOCTYPE html>", "a web page"),
        (b"weights", "plain text, not weights (`weights`)"),
        (b"Entry not found", "plain text, not weights (`Entry not found`)"),
        (
            b"{\"error\":\n \"Repository not found\"}",
            "JSON, not weights (`{\"error\": \"Repository not found\"}`); a server",
        ),
        (b"[1, 2]", "JSON"),
        (b"\x01\x02\x03\x04\x05", "neither a zip archive nor a pickle"),
        (b"\x80\x02N.", "a pickle that torch.save did not write"),
        (&tar, "a tar archive"),
    ];
    let scratch = Scratch::new();
    for (bytes, part) in cases {
        let error = scratch.error(bytes);
        assert!(error.contains("weights.pt: ") && error.contains(part), "{error}");
    }
}

#[test]
fn a_safetensors_header_may_begin_like_a_pickle() {
    let mut file = 0x80u64.to_le_bytes().to_vec();
    file.push(b'{');
    file.resize(0x88, b' ');
    let error = Scratch::new().error(&file);
    assert!(error.contains("a safetensors file"), "{error}");
}

#[test]
fn missing_files_and_folders_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let error = read(&folder.path().join("none.pt")).unwrap_err().to_string();
    assert!(error.contains("none.pt") && error.contains("No such file"), "{error}");
    let error = read(folder.path()).unwrap_err().to_string();
    assert!(error.contains("is a folder"), "{error}");
}

#[test]
fn a_named_pipe_or_device_is_not_waited_for() {
    let error = read("/dev/zero".as_ref()).unwrap_err().to_string();
    assert!(error.contains("not a regular file"), "{error}");
}

#[test]
fn a_file_that_shrinks_after_it_was_opened_is_an_error() {
    for name in ["dtypes.zip.pt", "dtypes.legacy.pt"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        let bytes = fs::read(crate::support::golden(name)).unwrap();
        fs::write(&path, &bytes).unwrap();
        let file = read(&path).unwrap();
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(bytes.len() as u64 / 4).unwrap();
        let error = file.section(None).unwrap_err().to_string();
        assert!(error.contains("not a complete PyTorch file"), "{name}: {error}");
    }
}
