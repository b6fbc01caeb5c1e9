//! JPEG and PNG bytes to RGB, refusing files that are not whole.
//!
//! Decoders are forgiving: a JPEG that was cut short comes out with a grey lower part. So the container is checked first: a JPEG must
//! reach its end-of-image marker (as Pillow demands), a PNG must consist of chunks with correct checksums up to `IEND`.
use image::{DynamicImage, ImageFormat};

use crate::Image;

/// Decodes a JPEG or PNG, recognised by its content. Colours become what Pillow's `convert("RGB")` gives: grey is repeated, a palette
/// is looked up, transparency is dropped; 16-bit samples are scaled to 8 bits. An EXIF orientation is not applied.
///
/// # Errors
/// A sentence that says why the bytes are no whole image; the caller adds where they came from.
pub fn decode(bytes: &[u8]) -> Result<Image, String> {
    if bytes.is_empty() {
        return Err("the file is empty".to_owned());
    }
    let format = image::guess_format(bytes).map_err(|_| "neither a JPEG nor a PNG".to_owned())?;
    match format {
        ImageFormat::Jpeg => check_jpeg(bytes)?,
        ImageFormat::Png => check_png(bytes)?,
        other => return Err(format!("{other:?} content, which is not read; convert it to JPEG or PNG")),
    }
    let decoded = image::load_from_memory_with_format(bytes, format).map_err(|e| e.to_string())?;
    let rgb = match decoded {
        DynamicImage::ImageRgb8(rgb) => rgb,
        other => other.into_rgb8(),
    };
    Image::new(rgb.width(), rgb.height(), rgb.into_raw()).map_err(|e| e.to_string())
}

fn cut_short(at: usize) -> String {
    format!("cut short: the data end after {at} bytes, before the end of the picture")
}

/// Walks the marker segments (ITU-T T.81, annex B) to the end-of-image marker.
fn check_jpeg(bytes: &[u8]) -> Result<(), String> {
    const END_OF_IMAGE: u8 = 0xD9;
    let short = || cut_short(bytes.len());
    let mut at = 2;
    loop {
        // To the next marker: 0xFF and a byte that is neither stuffing (0x00), fill (0xFF) nor a restart marker.
        let marker = loop {
            let step = bytes.get(at..).and_then(|rest| rest.iter().position(|&b| b == 0xFF)).ok_or_else(short)?;
            at += step + 1;
            match bytes.get(at) {
                None => return Err(short()),
                Some(0x00 | 0x01 | 0xD0..=0xD8) => at += 1,
                Some(0xFF) => {}
                Some(&marker) => break marker,
            }
        };
        if marker == END_OF_IMAGE {
            return Ok(());
        }
        let length = bytes.get(at + 1..at + 3).map(|b| usize::from(u16::from_be_bytes([b[0], b[1]]))).ok_or_else(short)?;
        if length < 2 {
            return Err(format!("broken JPEG: segment 0x{marker:02X} at byte {at} has length {length}"));
        }
        // After a scan's header come its entropy-coded bytes, through which the search above runs; it also passes over stray
        // bytes between segments, as libjpeg does.
        at += 1 + length;
    }
}

/// Walks the chunks (PNG specification, section 5) and checks each one's CRC.
fn check_png(bytes: &[u8]) -> Result<(), String> {
    let short = || cut_short(bytes.len());
    let mut at = 8;
    loop {
        let length = bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes).ok_or_else(short)? as usize;
        let body = bytes.get(at + 4..at + 8 + length).ok_or_else(short)?;
        let stored =
            bytes.get(at + 8 + length..at + 12 + length).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes).ok_or_else(short)?;
        let mut crc = flate2::Crc::new();
        crc.update(body);
        if crc.sum() != stored {
            return Err(format!("broken PNG: the checksum of the {} chunk at byte {at} is wrong", body[..4].escape_ascii()));
        }
        if &body[..4] == b"IEND" {
            return Ok(());
        }
        at += 12 + length;
    }
}
