use heterodyne_data::decode::decode;

use crate::support::{bytes, difference, goldens, image};

/// Largest and mean difference that a JPEG decoder may have from libjpeg-turbo's, in levels: inverse transforms may round differently.
const JPEG: (u8, f64) = (3, 0.6);

#[test]
fn pictures_come_out_as_pillow_converts_them_to_rgb() {
    let goldens = goldens("decode.safetensors");
    let names: Vec<&str> = goldens.keys().filter_map(|key| key.strip_suffix(".file")).collect();
    assert_eq!(names.len(), 14);
    for name in names {
        let ours = decode(&bytes(&goldens[&format!("{name}.file")])).unwrap();
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
        assert!(decode(&whole).is_ok());
        for length in (0..whole.len()).step_by(7).chain([whole.len() - 1, whole.len() - 2]) {
            let error = decode(&whole[..length]).expect_err(&format!("{name} cut to {length} of {} bytes", whole.len()));
            assert!(!error.is_empty());
        }
        assert!(decode(&whole[..whole.len() / 2]).unwrap_err().contains("cut short"), "{name}");
        // As a full disk leaves it: the right length, zeros from the middle on.
        let mut holed = whole.clone();
        holed[whole.len() / 2..].fill(0);
        assert!(decode(&holed).is_err(), "{name} with zeros");
    }
}

#[test]
fn bytes_that_are_no_picture_are_refused() {
    assert!(decode(&[]).unwrap_err().contains("empty"));
    assert!(decode(b"<html>404</html>").unwrap_err().contains("neither a JPEG nor a PNG"));
    assert!(decode(b"GIF89a\0\0\0\0").unwrap_err().contains("convert"));
}

#[test]
fn a_changed_byte_in_a_png_is_found() {
    let mut file = bytes(&goldens("decode.safetensors")["png_rgb.file"]);
    for at in [20, 60, file.len() / 2, file.len() - 20] {
        file[at] ^= 1;
        let error = decode(&file).unwrap_err();
        assert!(error.contains("checksum"), "byte {at}: {error}");
        file[at] ^= 1;
    }
}
