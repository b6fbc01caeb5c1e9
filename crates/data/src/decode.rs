//! Decodes images to RGB and rejects incomplete files.
//!
//! Decoders are lenient: a truncated JPEG decodes with a grey lower part. The container is therefore checked first. A
//! JPEG must reach its end-of-image marker (as Pillow requires); a PNG must consist of chunks with correct checksums up
//! to `IEND`.
use std::io::Cursor;

use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, metadata::Orientation};

use crate::Image;

/// The supported formats, for messages.
pub const FORMATS: &str = "JPEG, PNG, WebP, GIF, BMP or TIFF";

/// Decoding options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decode {
    /// Whether to apply the EXIF orientation.
    pub exif: bool,
    /// Maximum number of pixels of an image.
    pub max_pixels: u64,
}

impl Default for Decode {
    /// Applies the orientation. The limit is Pillow's for an error, twice the number of pixels at which it warns of a
    /// decompression bomb.
    fn default() -> Self {
        Self { exif: true, max_pixels: 178_956_970 }
    }
}

/// The format of an image, recognised from its first bytes; `None` if it is not supported.
#[must_use]
pub(crate) fn format(head: &[u8]) -> Option<ImageFormat> {
    let format = image::guess_format(head).ok()?;
    match format {
        ImageFormat::Jpeg | ImageFormat::Png | ImageFormat::WebP | ImageFormat::Gif | ImageFormat::Tiff => Some(format),
        // Its two letters begin other files too; four of its header bytes are always zero.
        ImageFormat::Bmp if head.get(6..10) == Some(&[0; 4]) => Some(format),
        _ => None,
    }
}

/// Decodes an image; of an animation, the first frame. Colours are converted as by Pillow's `convert("RGB")`: grey is
/// repeated, a palette is looked up, CMYK is multiplied out, transparency is dropped. Of 16-bit samples the upper byte
/// is kept.
///
/// # Errors
/// The reason why the bytes are not a complete image; the caller adds where they came from.
pub fn decode(bytes: &[u8], how: &Decode) -> Result<Image, String> {
    let format = recognised(bytes)?;
    match format {
        ImageFormat::Jpeg => check_jpeg(bytes)?,
        ImageFormat::Png => check_png(bytes)?,
        ImageFormat::Gif => check_gif(bytes)?,
        ImageFormat::WebP => check_riff(bytes)?,
        _ => {}
    }
    let mut decoder = begin(bytes, format, how)?;
    let orientation =
        if how.exif { decoder.orientation().unwrap_or(Orientation::NoTransforms) } else { Orientation::NoTransforms };
    let mut decoded = DynamicImage::from_decoder(decoder).map_err(refused)?;
    decoded.apply_orientation(orientation);
    let (width, height) = (decoded.width(), decoded.height());
    Image::new(width, height, rgb(decoded)).map_err(|e| e.to_string())
}

/// Columns and rows of an image as displayed, from its header.
///
/// # Errors
/// As [`decode`], for faults that show in the header.
pub fn size(bytes: &[u8], how: &Decode) -> Result<(u32, u32), String> {
    let mut decoder = begin(bytes, recognised(bytes)?, how)?;
    let (width, height) = decoder.dimensions();
    let turned = how.exif
        && matches!(
            decoder.orientation(),
            Ok(Orientation::Rotate90
                | Orientation::Rotate270
                | Orientation::Rotate90FlipH
                | Orientation::Rotate270FlipH)
        );
    Ok(if turned { (height, width) } else { (width, height) })
}

/// The format of a whole file.
fn recognised(bytes: &[u8]) -> Result<ImageFormat, String> {
    if bytes.is_empty() { Err("the file is empty".to_owned()) } else { format(bytes).ok_or_else(|| unknown(bytes)) }
}

/// A decoder that has read the header, for an image of an acceptable size.
fn begin<'a>(bytes: &'a [u8], format: ImageFormat, how: &Decode) -> Result<impl ImageDecoder + use<'a>, String> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    // The size is checked below, with our own message.
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(how.max_pixels.saturating_mul(8).saturating_add(64 << 20));
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(refused)?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels > how.max_pixels {
        return Err(format!(
            "{width} x {height} pixels exceed the limit of {}: shrink the picture, or allow it with `data.max_pixels = \
             {pixels}` (`--max-pixels`)",
            how.max_pixels
        ));
    }
    Ok(decoder)
}

/// The decoder's message, with advice if the image is unsupported rather than damaged.
fn refused(error: ImageError) -> String {
    match error {
        ImageError::Unsupported(e) => format!("this kind of picture is not supported ({e}); convert it to JPEG or PNG"),
        other => other.to_string(),
    }
}

/// Describes bytes that are not a supported image.
fn unknown(bytes: &[u8]) -> String {
    let other = match image::guess_format(bytes) {
        Ok(ImageFormat::Avif) => Some("AVIF"),
        Ok(ImageFormat::Pnm) => Some("PNM"),
        Ok(ImageFormat::Ico) => Some("icon"),
        Ok(ImageFormat::OpenExr) => Some("OpenEXR"),
        Ok(ImageFormat::Hdr) => Some("Radiance HDR"),
        Ok(ImageFormat::Qoi) => Some("QOI"),
        _ if bytes.get(4..8) == Some(b"ftyp") => Some("HEIC, AVIF or video"),
        _ if bytes.starts_with(b"version https://git-lfs") => {
            return "a Git LFS pointer, not the picture itself: run `git lfs pull` in the clone".to_owned();
        }
        _ => None,
    };
    match other {
        Some(other) => format!("{other} content is not supported; convert it to JPEG or PNG"),
        None => format!("not a {FORMATS} image"),
    }
}

/// The samples as 8-bit RGB.
fn rgb(decoded: DynamicImage) -> Vec<u8> {
    match decoded {
        DynamicImage::ImageRgb8(rgb) => rgb.into_raw(),
        DynamicImage::ImageLuma16(grey) => grey.iter().flat_map(|&v| [upper(v); 3]).collect(),
        DynamicImage::ImageLumaA16(grey) => grey.pixels().flat_map(|p| [upper(p.0[0]); 3]).collect(),
        DynamicImage::ImageRgb16(rgb) => rgb.iter().map(|&v| upper(v)).collect(),
        DynamicImage::ImageRgba16(rgba) => {
            rgba.pixels().flat_map(|p| [upper(p.0[0]), upper(p.0[1]), upper(p.0[2])]).collect()
        }
        other => other.into_rgb8().into_raw(),
    }
}

fn upper(sample: u16) -> u8 {
    (sample >> 8) as u8
}

fn cut_short(at: usize) -> String {
    format!("cut short: the data end after {at} bytes, before the picture is complete")
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
        let length =
            bytes.get(at + 1..at + 3).map(|b| usize::from(u16::from_be_bytes([b[0], b[1]]))).ok_or_else(short)?;
        if length < 2 {
            return Err(format!("broken JPEG: segment 0x{marker:02X} at byte {at} has length {length}"));
        }
        // A scan's header is followed by entropy-coded bytes, which the search above skips. It also skips stray bytes
        // between segments, as libjpeg does.
        at += 1 + length;
    }
}

/// Walks the chunks (PNG specification, section 5) and checks each one's CRC.
fn check_png(bytes: &[u8]) -> Result<(), String> {
    let short = || cut_short(bytes.len());
    let mut at = 8;
    loop {
        let length =
            bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes).ok_or_else(short)? as usize;
        let body = bytes.get(at + 4..at + 8 + length).ok_or_else(short)?;
        let stored = bytes
            .get(at + 8 + length..at + 12 + length)
            .and_then(|b| b.try_into().ok())
            .map(u32::from_be_bytes)
            .ok_or_else(short)?;
        let mut crc = flate2::Crc::new();
        crc.update(body);
        if crc.sum() != stored {
            return Err(format!(
                "broken PNG: the checksum of the {} chunk at byte {at} is wrong",
                body[..4].escape_ascii()
            ));
        }
        if &body[..4] == b"IEND" {
            return Ok(());
        }
        at += 12 + length;
    }
}

/// Compares the size in a WebP's RIFF header with the actual size.
fn check_riff(bytes: &[u8]) -> Result<(), String> {
    let size = bytes.get(4..8).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
    if size.is_none_or(|size| bytes.len() < 8 + size as usize) { Err(cut_short(bytes.len())) } else { Ok(()) }
}

/// Walks the blocks (GIF89a specification, from section 12) to the end of the first frame.
fn check_gif(bytes: &[u8]) -> Result<(), String> {
    let short = || cut_short(bytes.len());
    let byte = |at: usize| bytes.get(at).copied().ok_or_else(short);
    // A colour table of 2^(n+1) entries, if the packed field announces one.
    let table = |packed: u8| if packed & 0x80 == 0 { 0 } else { 3 << ((packed & 7) + 1) };
    let mut at = 13 + table(byte(10)?);
    loop {
        let is_frame = match byte(at)? {
            0x21 => {
                at += 2;
                false
            }
            0x2C => {
                at += 11 + table(byte(at + 9)?);
                true
            }
            0x3B => return Err("a GIF without a frame".to_owned()),
            other => return Err(format!("broken GIF: unknown block 0x{other:02X} at byte {at}")),
        };
        loop {
            let length = usize::from(byte(at)?);
            at += 1 + length;
            if length == 0 {
                break;
            }
        }
        if is_frame {
            return Ok(());
        }
    }
}
