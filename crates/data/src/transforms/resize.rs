//! Resizing as Pillow does it: a separable filter that widens when it shrinks, in 8-bit fixed point, rows first.
use std::cell::RefCell;

use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer, images};
use heterodyne_nn::{Error, Result};

use super::crop::{Region, center_region, crop, region_rows};
use crate::Image;

/// The interpolation kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Keys' cubic with a = -0.5 (Catmull-Rom), Pillow's `BICUBIC`.
    Bicubic,
    /// The triangle, Pillow's `BILINEAR`.
    Bilinear,
}

/// Working memory that a thread keeps between images.
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

/// The whole image at another size.
///
/// # Errors
/// The target has no pixels.
pub fn resize(image: &Image, width: usize, height: usize, filter: Filter) -> Result<Image> {
    let (h, w) = image.size();
    resized_crop(image, Region { top: 0, left: 0, height: h, width: w }, width, height, filter)
}

/// `region` cut out and resized; pixels outside the region have no influence.
///
/// # Errors
/// The region or the target has no pixels.
pub fn resized_crop(image: &Image, region: Region, width: usize, height: usize, filter: Filter) -> Result<Image> {
    if region.width == width && region.height == height {
        return Ok(crop(image, region));
    }
    if width * height * region.width * region.height == 0 {
        return Err(Error::invalid(format!("cannot resize {} x {} pixels to {width} x {height}", region.width, region.height)));
    }
    SCRATCH.with_borrow_mut(|Scratch { resizer, from, rows, to }| {
        from.clear();
        from.reserve(region.width * region.height * 4);
        for row in region_rows(image, region) {
            from.extend(row.chunks_exact(3).flat_map(|p| [p[0], p[1], p[2], 255]));
        }
        // The resizer would begin with the columns. Two calls of one direction each keep Pillow's order, and so its rounding.
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
    filter: Filter,
) -> Result<()> {
    let failed = |e: &dyn std::fmt::Display| Error::invalid(format!("resizing {from_size:?} to {to_size:?} pixels: {e}"));
    to.resize(to_size.0 * to_size.1 * 4, 0);
    let source = images::ImageRef::new(from_size.0 as u32, from_size.1 as u32, from, PixelType::U8x4).map_err(|e| failed(&e))?;
    let mut target = images::Image::from_slice_u8(to_size.0 as u32, to_size.1 as u32, to, PixelType::U8x4).map_err(|e| failed(&e))?;
    let kernel = match filter {
        Filter::Bicubic => FilterType::CatmullRom,
        Filter::Bilinear => FilterType::Bilinear,
    };
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(kernel)).use_alpha(false);
    resizer.resize(&source, &mut target, &options).map_err(|e| failed(&e))
}

/// Resizes so that the shorter side becomes `shorter` (the longer one is cut to whole pixels, as in torchvision's `Resize`) and takes
/// the middle square of `side` pixels.
///
/// # Errors
/// `side` is 0 or larger than `shorter`.
pub fn fit(image: &Image, shorter: usize, side: usize, filter: Filter) -> Result<Image> {
    if side == 0 || side > shorter {
        return Err(Error::invalid(format!("cannot cut {side} x {side} pixels out of an image whose shorter side is {shorter}")));
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

/// What an image looks like in evaluation: shorter side to floor(side / crop), bicubic, then the middle (timm's rule; 224 / 0.9 gives
/// 248). An image that is already `side` x `side` is left alone where `crop` is 1.
///
/// # Errors
/// As for [`fit`].
pub fn evaluation(image: Image, side: usize, crop: f64) -> Result<Image> {
    if crop == 1.0 && image.size() == (side, side) {
        return Ok(image);
    }
    fit(&image, (side as f64 / crop).floor() as usize, side, Filter::Bicubic)
}
