use heterodyne_data::{Decode, decode::decode};

use crate::support::{bytes, decode_as_is, difference, goldens, image};

/// Largest and mean difference that a JPEG decoder may have from libjpeg-turbo's, in levels: inverse transforms may
/// round differently.
const JPEG: (u8, f64) = (3, 0.6);

#[test]
fn pictures_come_out_as_pillow_converts_them_to_rgb() {
    let goldens = goldens("decode.safetensors");
    let names: Vec<&str> = goldens.keys().filter_map(|key| key.strip_suffix(".file")).collect();
    assert_eq!(names.len(), 14);
    for name in names {
        let ours = decode_as_is(&bytes(&goldens[&format!("{name}.file")])).unwrap();
        let (max, mean) = difference(&ours, &image(&goldens[&format!("{name}.rgb")]));
        println!("{name}: max {max}, mean {mean:.3}");
        let (allowed_max, allowed_mean) = if name.starts_with("png") { (0, 0.0) } else { JPEG };
        assert!(max <= allowed_max && mean <= allowed_mean, "{name}: max {max}, mean {mean}");
    }
}

#[test]
fn no_picture_that_was_cut_short_is_accepted() {
    let goldens = goldens("decode.safetensors");
    for (name, file) in goldens.iter().filter(|(key, _)| key.ends_with(".file")) {
        let whole = bytes(file);
        assert!(decode_as_is(&whole).is_ok());
        for length in (0..whole.len()).step_by(7).chain([whole.len() - 1, whole.len() - 2]) {
            let error =
                decode_as_is(&whole[..length]).expect_err(&format!("{name} cut to {length} of {} bytes", whole.len()));
            assert!(!error.is_empty());
        }
        assert!(decode_as_is(&whole[..whole.len() / 2]).unwrap_err().contains("cut short"), "{name}");
        // As a full disk leaves it: the right length, but zeros from the middle.
        let mut holed = whole.clone();
        holed[whole.len() / 2..].fill(0);
        assert!(decode_as_is(&holed).is_err(), "{name} with zeros");
    }
}

#[test]
fn bytes_that_are_no_picture_are_refused() {
    assert!(decode_as_is(&[]).unwrap_err().contains("empty"));
    assert!(decode_as_is(b"<html>404</html>").unwrap_err().contains("not a JPEG, PNG, WebP"));
    assert!(decode_as_is(b"GIF89a\0\0\0\0").unwrap_err().contains("cut short"));
}

#[test]
fn a_changed_byte_in_a_png_is_found() {
    let mut file = bytes(&goldens("decode.safetensors")["png_rgb.file"]);
    for at in [20, 60, file.len() / 2, file.len() - 20] {
        file[at] ^= 1;
        let error = decode_as_is(&file).unwrap_err();
        assert!(error.contains("checksum"), "byte {at}: {error}");
        file[at] ^= 1;
    }
}

/// Formats whose decoders may round differently from Pillow's: the largest and the mean difference in levels.
const LOSSY: [(&str, (u8, f64)); 4] =
    [("jpeg", JPEG), ("exif_jpeg", JPEG), ("webp_lossy", (4, 0.6)), ("tiff_cmyk", (1, 0.5))];

#[test]
fn every_format_comes_out_as_pillow_shows_it() {
    let goldens = goldens("formats.safetensors");
    let names: Vec<&str> = goldens.keys().filter_map(|key| key.strip_suffix(".file")).collect();
    assert_eq!(names.len(), 40);
    for name in names {
        let ours = decode(&bytes(&goldens[&format!("{name}.file")]), &Decode::default())
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        let (max, mean) = difference(&ours, &image(&goldens[&format!("{name}.rgb")]));
        println!("{name}: max {max}, mean {mean:.3}");
        let (allowed_max, allowed_mean) =
            LOSSY.iter().find(|(start, _)| name.starts_with(start)).map_or((0, 0.0), |(_, allowed)| *allowed);
        assert!(max <= allowed_max && mean <= allowed_mean, "{name}: max {max}, mean {mean}");
    }
}

#[test]
fn a_cut_picture_of_any_format_is_refused_or_whole() {
    let goldens = goldens("formats.safetensors");
    for (name, file) in goldens.iter().filter_map(|(key, file)| Some((key.strip_suffix(".file")?, file))) {
        let file = bytes(file);
        let whole = decode(&file, &Decode::default()).unwrap();
        let mut refused = 0;
        for length in (0..file.len()).step_by(11) {
            match decode(&file[..length], &Decode::default()) {
                Ok(cut) => assert!(cut == whole, "{name} cut to {length} of {} bytes", file.len()),
                Err(_) => refused += 1,
            }
        }
        assert!(refused > file.len() / 11 / 3, "{name}: {refused} refused");
    }
}

#[test]
fn changed_bytes_never_panic() {
    let goldens = goldens("formats.safetensors");
    for (name, file) in goldens.iter().filter_map(|(key, file)| Some((key.strip_suffix(".file")?, file))) {
        let mut file = bytes(file);
        for at in (0..file.len().min(2000)).step_by(7) {
            let before = file[at];
            for value in [0, 0xFF, before ^ 0x80] {
                file[at] = value;
                let outcome =
                    std::panic::catch_unwind(|| drop(decode(&file, &Decode { max_pixels: 1 << 20, exif: true })));
                assert!(outcome.is_ok(), "{name}, byte {at} = {value}");
            }
            file[at] = before;
        }
    }
}

#[test]
fn orientation_can_be_left_alone_and_size_is_bounded() {
    let goldens = goldens("formats.safetensors");
    let turned = bytes(&goldens["exif_jpeg_6.file"]);
    assert_eq!(decode(&turned, &Decode::default()).unwrap().size(), (38, 29));
    assert_eq!(decode_as_is(&turned).unwrap().size(), (29, 38));
    let error = decode(&turned, &Decode { max_pixels: 1101, exif: true }).unwrap_err();
    assert!(error.contains("38 x 29") && error.contains("data.max_pixels = 1102"), "{error}");
    assert!(decode(&turned, &Decode { max_pixels: 1102, exif: true }).is_ok());
}
