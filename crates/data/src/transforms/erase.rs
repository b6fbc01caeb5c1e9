//! Random erasing (Zhong et al., arXiv 1708.04896) with the paper's strongest filling: random values, here per pixel
//! and channel.
use super::crop::Region;
use crate::{Image, Random};

/// Ranges of the erased share of the image and of the ratio of height to width: timm's defaults.
const AREA: [f64; 2] = [0.02, 1.0 / 3.0];
const RATIO: [f64; 2] = [0.3, 1.0 / 0.3];

/// Draws the rectangle to erase; `None` if ten tries do not fit into the image.
pub fn erase_region(image: &Image, rng: &mut Random) -> Option<Region> {
    let (height, width) = image.size();
    for _ in 0..10 {
        let target = (height * width) as f64 * rng.uniform(AREA[0], AREA[1]);
        let aspect = rng.uniform(RATIO[0].ln(), RATIO[1].ln()).exp();
        let h = (target * aspect).sqrt().round_ties_even() as usize;
        let w = (target / aspect).sqrt().round_ties_even() as usize;
        if (1..height).contains(&h) && (1..width).contains(&w) {
            return Some(Region {
                top: rng.below(height - h + 1),
                left: rng.below(width - w + 1),
                height: h,
                width: w,
            });
        }
    }
    None
}

/// Fills a random rectangle with noise.
pub fn erase(image: &mut Image, rng: &mut Random) {
    let Some(region) = erase_region(image, rng) else { return };
    let stride = image.width as usize * 3;
    for row in image.rgb.chunks_exact_mut(stride).skip(region.top).take(region.height) {
        rng.bytes(&mut row[region.left * 3..(region.left + region.width) * 3]);
    }
}
