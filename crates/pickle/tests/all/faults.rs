//! Real files, truncated and changed, give an error or the correct tensors: never a panic, and always quickly.
use std::{fs, time::Instant};

use heterodyne_pickle::read;

use crate::support::{Scratch, archive, golden};

/// Small files of each kind.
const FILES: [&str; 8] = [
    "parameters.zip.pt",
    "parameters.legacy.pt",
    "protocol4.zip.pt",
    "protocol4.legacy.pt",
    "module.legacy.pt",
    "deflated.pt",
    "old.pt",
    "loop.legacy.pt",
];

fn bytes(name: &str) -> Vec<u8> {
    fs::read(golden(name)).unwrap()
}

/// The pickle of a file in the zip container.
fn pickle(name: &str) -> Vec<u8> {
    let mut zip = zip::ZipArchive::new(fs::File::open(golden(name)).unwrap()).unwrap();
    let record = zip.file_names_raw().position(|name| name.ends_with(b"data.pkl")).unwrap();
    let mut pickle = Vec::new();
    std::io::Read::read_to_end(&mut zip.by_index(record).unwrap(), &mut pickle).unwrap();
    pickle
}

/// A seeded sequence of numbers (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}

#[test]
fn every_cut_is_noticed() {
    let scratch = Scratch::new();
    for name in FILES {
        let whole = bytes(name);
        for length in (0..whole.len()).step_by(7).chain(whole.len() - 40..whole.len()) {
            let error = scratch.error(&whole[..length]);
            assert!(
                error.contains("was the download cut short?"),
                "{name} cut to {length} of {} bytes: {error}",
                whole.len()
            );
        }
    }
}

#[test]
fn no_changed_byte_of_a_pickle_does_harm() {
    let scratch = Scratch::new();
    for name in ["parameters.zip.pt", "protocol4.zip.pt"] {
        let whole = pickle(name);
        let (mut read, mut refused) = (0, 0);
        for at in 0..whole.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut changed = whole.clone();
                changed[at] ^= flip;
                *(if scratch.exhaust(&archive(&changed, &[("0", &[0; 16])])) { &mut read } else { &mut refused }) += 1;
            }
        }
        // A changed letter in a name leaves a valid file; a changed opcode does not.
        assert!(read > 0 && refused > whole.len() / 4, "{name}: {read} read, {refused} refused");
    }
    for name in ["parameters.legacy.pt", "old.pt"] {
        let whole = bytes(name);
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 0xff;
            scratch.exhaust(&changed);
        }
    }
}

#[test]
fn no_changed_byte_of_a_zip_archive_changes_a_tensor() {
    let name = "parallel.zip.pt";
    let truth = read(&golden(name)).unwrap().section(None).unwrap();
    let (scratch, whole) = (Scratch::new(), bytes(name));
    let mut noticed = 0;
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 0xff;
        match scratch.read(&changed).and_then(|file| file.section(None)) {
            Err(_) => noticed += 1,
            Ok(section) => {
                for (name, tensor) in &section.tensors {
                    assert_eq!(
                        (&tensor.shape, tensor.bytes()),
                        (&truth.tensors[name].shape, truth.tensors[name].bytes()),
                        "byte {at}"
                    );
                }
                assert_eq!(section.tensors.len(), truth.tensors.len());
            }
        }
    }
    assert!(noticed > 500, "{noticed}");
}

#[test]
fn random_changes_do_no_harm() {
    let (scratch, mut random, start) = (Scratch::new(), Random(7), Instant::now());
    let files: Vec<_> = FILES.iter().map(|name| bytes(name)).collect();
    let pickles: Vec<_> =
        ["parameters.zip.pt", "protocol4.zip.pt", "module.zip.pt", "layouts.zip.pt"].map(pickle).into();
    for round in 0..20_000 {
        let from = if round % 2 == 0 { &files } else { &pickles };
        let mut changed = from[random.below(from.len())].clone();
        for _ in 0..=random.below(6) {
            let at = random.below(changed.len());
            match random.below(4) {
                0 => changed[at] = random.below(256) as u8,
                1 => drop(changed.remove(at)),
                2 => changed.insert(at, random.below(256) as u8),
                _ => {
                    // A piece from elsewhere.
                    let (other, size) = (random.below(changed.len()), random.below(24));
                    let piece = changed[other..(other + size).min(changed.len())].to_vec();
                    changed.splice(at..at, piece);
                }
            }
            if changed.is_empty() {
                break;
            }
        }
        scratch.exhaust(&if round % 2 == 0 { changed } else { archive(&changed, &[("0", &[1; 16]), ("1", &[1; 24])]) });
    }
    assert!(start.elapsed().as_secs() < 60);
}
