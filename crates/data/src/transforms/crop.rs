//! Crops and flips.
use serde::{Deserialize, Serialize};

use crate::{Image, Random};

/// A rectangle inside an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// First row.
    pub top: usize,
    /// First column.
    pub left: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

/// How an image is padded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PadMode {
    /// The image mirrored at its outermost pixels, which are not repeated.
    #[default]
    Reflect,
    /// Black.
    Zero,
}

/// Cuts out `region`, which must be inside the image.
#[must_use]
pub fn crop(image: &Image, region: Region) -> Image {
    let mut out = Vec::with_capacity(region.height * region.width * 3);
    for row in region_rows(image, region) {
        out.extend_from_slice(row);
    }
    Image { width: region.width as u32, height: region.height as u32, rgb: out }
}

/// The rows of `region`, each width * 3 bytes.
pub(super) fn region_rows(image: &Image, region: Region) -> impl Iterator<Item = &[u8]> {
    let stride = image.width as usize * 3;
    let columns = region.left * 3..(region.left + region.width) * 3;
    image.rgb.chunks_exact(stride).skip(region.top).take(region.height).map(move |row| &row[columns.clone()])
}

/// The centre of the image; an odd margin is split as by torchvision's `center_crop` (halves round to even).
#[must_use]
pub fn center_region(image: &Image, side: usize) -> Region {
    let (height, width) = image.size();
    let start = |length: usize| (length.saturating_sub(side) as f64 / 2.0).round_ties_even() as usize;
    Region { top: start(height), left: start(width), height: side.min(height), width: side.min(width) }
}

/// Pads by `pad` on all sides and crops back to the original size, at `top` and `left` (0..=2*pad) from the padded
/// corner. Reflection needs `pad` to be smaller than both sides.
#[must_use]
pub fn pad_crop(image: &Image, pad: usize, mode: PadMode, top: usize, left: usize) -> Image {
    let (height, width) = image.size();
    let stride = width * 3;
    let mut out = Image::black(width, height);
    // In the unpadded image's coordinates the window starts at (top - pad, left - pad).
    let inside = pad.saturating_sub(left)..(width + pad).saturating_sub(left).min(width);
    for (y, target) in out.rgb.chunks_exact_mut(stride).enumerate() {
        let Some(y) = source(y + top, pad, height, mode) else { continue };
        let row = &image.rgb[y * stride..(y + 1) * stride];
        let first = inside.start + left - pad;
        target[inside.start * 3..inside.end * 3].copy_from_slice(&row[first * 3..(first + inside.len()) * 3]);
        for x in (0..inside.start).chain(inside.end..width) {
            if let Some(from) = source(x + left, pad, width, mode) {
                target[x * 3..x * 3 + 3].copy_from_slice(&row[from * 3..from * 3 + 3]);
            }
        }
    }
    out
}

/// The image with `pad` pixels on all sides.
#[must_use]
pub fn padded(image: &Image, pad: usize, mode: PadMode) -> Image {
    let (height, width) = image.size();
    let mut out = Image::black(width + 2 * pad, height + 2 * pad);
    for (y, target) in out.rgb.chunks_exact_mut((width + 2 * pad) * 3).enumerate() {
        let Some(y) = source(y, pad, height, mode) else { continue };
        for (x, pixel) in target.chunks_exact_mut(3).enumerate() {
            if let Some(x) = source(x, pad, width, mode) {
                pixel.copy_from_slice(&image.rgb[(y * width + x) * 3..][..3]);
            }
        }
    }
    out
}

/// The source of position `at` of the padded line.
fn source(at: usize, pad: usize, length: usize, mode: PadMode) -> Option<usize> {
    match (at.checked_sub(pad), mode) {
        (Some(inside), _) if inside < length => Some(inside),
        (_, PadMode::Zero) => None,
        (None, PadMode::Reflect) => Some(pad - at),
        (Some(beyond), PadMode::Reflect) => Some(2 * length - 2 - beyond),
    }
}

/// Flips the image horizontally.
pub fn flip(image: &mut Image) {
    let stride = image.width as usize * 3;
    for row in image.rgb.chunks_exact_mut(stride) {
        let (mut left, mut right) = (0, stride - 3);
        while left < right {
            let (head, tail) = row.split_at_mut(right);
            head[left..left + 3].swap_with_slice(&mut tail[..3]);
            left += 3;
            right -= 3;
        }
    }
}

/// Draws a region whose share of the image's area is in `scale` and whose ratio of width to height is in `ratio`,
/// uniform in its logarithm: torchvision's `RandomResizedCrop.get_params` (after Szegedy et al. 2014). If ten tries do
/// not fit, this is the centre of the image with the nearest allowed ratio.
pub fn random_region(image: &Image, scale: [f64; 2], ratio: [f64; 2], rng: &mut Random) -> Region {
    let (height, width) = image.size();
    let area = (height * width) as f64;
    for _ in 0..10 {
        let target = area * rng.uniform(scale[0], scale[1]);
        let aspect = rng.uniform(ratio[0].ln(), ratio[1].ln()).exp();
        let w = (target * aspect).sqrt().round_ties_even() as usize;
        let h = (target / aspect).sqrt().round_ties_even() as usize;
        if (1..=width).contains(&w) && (1..=height).contains(&h) {
            return Region { top: rng.below(height - h + 1), left: rng.below(width - w + 1), height: h, width: w };
        }
    }
    let aspect = width as f64 / height as f64;
    let (h, w) = if aspect < ratio[0] {
        (((width as f64 / ratio[0]).round_ties_even() as usize).clamp(1, height), width)
    } else if aspect > ratio[1] {
        (height, ((height as f64 * ratio[1]).round_ties_even() as usize).clamp(1, width))
    } else {
        (height, width)
    };
    Region { top: (height - h) / 2, left: (width - w) / 2, height: h, width: w }
}
