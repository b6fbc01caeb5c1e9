//! Colour jitter with Pillow's arithmetic, which is what torchvision and timm apply to Pillow images.
use crate::{Image, Random};

/// One adjustment; a factor of 1 changes nothing, 0 gives the degenerate image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Adjust {
    /// Blends with black.
    Brightness(f64),
    /// Blends with the mean grey.
    Contrast(f64),
    /// Blends with the grey image.
    Saturation(f64),
}

/// ITU-R 601-2 luma in Pillow's fixed point (`convert("L")`).
fn luma(p: &[u8]) -> u8 {
    ((u32::from(p[0]) * 19595 + u32::from(p[1]) * 38470 + u32::from(p[2]) * 7471 + 0x8000) >> 16) as u8
}

/// Pillow's `Image.blend`: degenerate + factor * (value - degenerate), clamped to 0..255 and truncated.
fn blend(degenerate: u8, value: u8, factor: f32) -> u8 {
    let (d, v) = (f32::from(degenerate), f32::from(value));
    (d + factor * (v - d)) as u8
}

/// Applies one adjustment in place.
pub fn adjust(image: &mut Image, how: Adjust) {
    match how {
        Adjust::Brightness(factor) => image.rgb.iter_mut().for_each(|v| *v = blend(0, *v, factor as f32)),
        Adjust::Contrast(factor) => {
            let sum: u64 = image.rgb.chunks_exact(3).map(|p| u64::from(luma(p))).sum();
            let mean = (sum as f64 / (image.rgb.len() / 3) as f64 + 0.5) as u8;
            image.rgb.iter_mut().for_each(|v| *v = blend(mean, *v, factor as f32));
        }
        Adjust::Saturation(factor) => {
            for p in image.rgb.chunks_exact_mut(3) {
                let grey = luma(p);
                p.iter_mut().for_each(|v| *v = blend(grey, *v, factor as f32));
            }
        }
    }
}

/// torchvision's `ColorJitter`: applies each adjustment of strength s > 0 with a factor from U(max(0, 1-s), 1+s), in
/// random order.
pub fn jitter(image: &mut Image, brightness: f64, contrast: f64, saturation: f64, rng: &mut Random) {
    let mut order = [
        (brightness, Adjust::Brightness as fn(f64) -> Adjust),
        (contrast, Adjust::Contrast),
        (saturation, Adjust::Saturation),
    ];
    rng.shuffle(&mut order);
    for (strength, how) in order {
        if strength > 0.0 {
            adjust(image, how(rng.uniform((1.0 - strength).max(0.0), 1.0 + strength)));
        }
    }
}
