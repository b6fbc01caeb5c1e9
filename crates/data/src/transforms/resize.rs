//! Resizes as Pillow does: a separable filter that widens when shrinking, in 8-bit fixed point, rows first.
use std::cell::RefCell;

use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer, images};
use heterodyne_nn::{CropMode, Error, InputSpec, Interpolation, Result};

use super::crop::{Region, center_region, crop, region_rows};
use crate::Image;

/// The resampling kernels of augmentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Keys' cubic with a = -0.5 (Catmull-Rom), Pillow's `BICUBIC`.
    Bicubic,
    /// The triangle kernel, Pillow's `BILINEAR`.
    Bilinear,
}

impl From<Filter> for Interpolation {
    fn from(filter: Filter) -> Self {
        match filter {
            Filter::Bicubic => Self::Bicubic,
            Filter::Bilinear => Self::Bilinear,
        }
    }
}

/// Buffers that a thread reuses between images.
#[derive(Default)]
struct Scratch {
    resizer: Resizer,
    from: Vec<u8>,
    rows: Vec<u8>,
    to: Vec<u8>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Resizes the whole image.
///
/// # Errors
/// The target has no pixels.
pub fn resize(image: &Image, width: usize, height: usize, filter: impl Into<Interpolation>) -> Result<Image> {
    let (h, w) = image.size();
    resized_crop(image, Region { top: 0, left: 0, height: h, width: w }, width, height, filter)
}

/// Cuts out `region` and resizes it; pixels outside the region have no influence.
///
/// # Errors
/// The region or the target has no pixels.
pub fn resized_crop(
    image: &Image,
    region: Region,
    width: usize,
    height: usize,
    filter: impl Into<Interpolation>,
) -> Result<Image> {
    let filter = filter.into();
    if region.width == width && region.height == height {
        return Ok(crop(image, region));
    }
    if width * height * region.width * region.height == 0 {
        return Err(Error::invalid(format!(
            "cannot resize {} x {} pixels to {width} x {height}",
            region.width, region.height
        )));
    }
    SCRATCH.with_borrow_mut(|Scratch { resizer, from, rows, to }| {
        from.clear();
        from.reserve(region.width * region.height * 4);
        for row in region_rows(image, region) {
            from.extend(row.chunks_exact(3).flat_map(|p| [p[0], p[1], p[2], 255]));
        }
        // The resizer would start with the columns. Two calls, one per direction, keep Pillow's order and thus its
        // rounding.
        stretch(resizer, from, (region.width, region.height), rows, (width, region.height), filter)?;
        stretch(resizer, rows, (width, region.height), to, (width, height), filter)?;
        let mut out = Image::black(width, height);
        for (rgb, rgba) in out.rgb.chunks_exact_mut(3).zip(to.chunks_exact(4)) {
            rgb.copy_from_slice(&rgba[..3]);
        }
        Ok(out)
    })
}

/// Resizes RGBA pixels of one (width, height) to another.
fn stretch(
    resizer: &mut Resizer,
    from: &[u8],
    from_size: (usize, usize),
    to: &mut Vec<u8>,
    to_size: (usize, usize),
    filter: Interpolation,
) -> Result<()> {
    let failed =
        |e: &dyn std::fmt::Display| Error::invalid(format!("resizing {from_size:?} to {to_size:?} pixels: {e}"));
    to.resize(to_size.0 * to_size.1 * 4, 0);
    let source =
        images::ImageRef::new(from_size.0 as u32, from_size.1 as u32, from, PixelType::U8x4).map_err(|e| failed(&e))?;
    let mut target = images::Image::from_slice_u8(to_size.0 as u32, to_size.1 as u32, to, PixelType::U8x4)
        .map_err(|e| failed(&e))?;
    let algorithm = match filter {
        Interpolation::Nearest => ResizeAlg::Nearest,
        Interpolation::Box => ResizeAlg::Convolution(FilterType::Box),
        Interpolation::Bilinear => ResizeAlg::Convolution(FilterType::Bilinear),
        Interpolation::Hamming => ResizeAlg::Convolution(FilterType::Hamming),
        Interpolation::Bicubic => ResizeAlg::Convolution(FilterType::CatmullRom),
        Interpolation::Lanczos => ResizeAlg::Convolution(FilterType::Lanczos3),
    };
    let options = ResizeOptions::new().resize_alg(algorithm).use_alpha(false);
    resizer.resize(&source, &mut target, &options).map_err(|e| failed(&e))
}

/// Resizes the shorter side to `shorter` (the longer one is truncated to whole pixels, as in torchvision's `Resize`)
/// and takes the central square of `side` pixels.
///
/// # Errors
/// `side` is 0 or larger than `shorter`.
pub fn fit(image: &Image, shorter: usize, side: usize, filter: impl Into<Interpolation>) -> Result<Image> {
    if side == 0 || side > shorter {
        return Err(Error::invalid(format!(
            "cannot cut {side} x {side} pixels out of an image whose shorter side is {shorter}"
        )));
    }
    let (height, width) = image.size();
    let (short, long) = (height.min(width), height.max(width));
    let long = (shorter * long) / short;
    let (h, w) = if height <= width { (shorter, long) } else { (long, shorter) };
    if (h, w) == (height, width) {
        return Ok(crop(image, center_region(image, side)));
    }
    let resized = resize(image, w, h, filter)?;
    if h == side && w == side { Ok(resized) } else { Ok(crop(&resized, center_region(&resized, side))) }
}

/// Applies the evaluation transform, except for the normalisation. An image that already has the target size is not
/// resized.
///
/// # Errors
/// `spec` is not valid ([`InputSpec::check`]).
pub fn evaluation(image: Image, spec: &InputSpec) -> Result<Image> {
    let (side, resized) = (spec.img.max(0) as usize, spec.resized().max(0) as usize);
    if image.size() == (resized, resized) {
        return Ok(if resized == side { image } else { crop(&image, center_region(&image, side)) });
    }
    match spec.crop_mode {
        CropMode::Center => fit(&image, resized, side, spec.interpolation),
        CropMode::Squash => {
            let image = resize(&image, resized, resized, spec.interpolation)?;
            Ok(crop(&image, center_region(&image, side)))
        }
        CropMode::Border => {
            // Rounds halves to even, as Python does.
            let (height, width) = image.size();
            let ratio = height.max(width) as f64 / resized as f64;
            let of = |length: usize| ((length as f64 / ratio).round_ties_even() as usize).max(1);
            let image = resize(&image, of(width), of(height), spec.interpolation)?;
            Ok(center_on(&image, side, spec.mean.map(|m| (255.0 * m).round_ties_even().clamp(0.0, 255.0) as u8)))
        }
    }
}

/// The central square of `side` pixels, padded with `colour` if the image is smaller.
fn center_on(image: &Image, side: usize, colour: [u8; 3]) -> Image {
    let image = crop(image, center_region(image, side));
    let (height, width) = image.size();
    let mut out = Image { width: side as u32, height: side as u32, rgb: colour.repeat(side * side) };
    let (top, left) = ((side - height) / 2, (side - width) / 2);
    for (row, pixels) in image.rgb.chunks_exact(width * 3).enumerate() {
        let start = ((top + row) * side + left) * 3;
        out.rgb[start..start + width * 3].copy_from_slice(pixels);
    }
    out
}
