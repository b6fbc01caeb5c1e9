//! RandAugment's operations with Pillow's arithmetic, byte for byte.
use crate::{
    Image,
    transforms::{Adjust, Filter, adjust},
};

/// One operation with its argument, as `timm.data.auto_augment` calls Pillow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Op {
    /// Stretches each channel to 0..255.
    AutoContrast,
    /// Equalizes each channel's histogram.
    Equalize,
    /// 255 - value.
    Invert,
    /// Rotates counter-clockwise about the centre by this many degrees.
    Rotate(f64),
    /// Keeps this many of the highest bits.
    Posterize(u32),
    /// Inverts values of at least this.
    Solarize(u32),
    /// Adds this to values below 128.
    SolarizeAdd(u32),
    /// Scales saturation, contrast or brightness by a factor.
    Adjust(Adjust),
    /// Scales sharpness by a factor; 0 smooths, 1 leaves the image unchanged.
    Sharpness(f64),
    /// Shears horizontally: pixels move by this share of their row.
    ShearX(f64),
    /// Shears vertically: pixels move by this share of their column.
    ShearY(f64),
    /// Moves left by this share of the width.
    TranslateX(f64),
    /// Moves up by this share of the height.
    TranslateY(f64),
}

/// Applies one operation; geometric ones use `fill` for pixels from outside the image.
pub fn operate(image: &mut Image, op: Op, filter: Filter, fill: [u8; 3]) {
    match op {
        Op::AutoContrast => by_channel(image, stretched),
        Op::Equalize => by_channel(image, flattened),
        Op::Invert => by_value(image, |v| 255 - v),
        Op::Posterize(bits) if bits >= 8 => {}
        Op::Posterize(bits) => by_value(image, |v| v & !((1u16 << (8 - bits)) - 1) as u8),
        Op::Solarize(least) => by_value(image, |v| if u32::from(v) < least { v } else { 255 - v }),
        Op::SolarizeAdd(add) => by_value(image, |v| if v < 128 { (u32::from(v) + add).min(255) as u8 } else { v }),
        Op::Adjust(how) => adjust(image, how),
        Op::Sharpness(factor) => sharpen(image, factor as f32),
        Op::Rotate(degrees) => rotate(image, degrees, filter, fill),
        Op::ShearX(share) => affine(image, [1.0, share, 0.0, 0.0, 1.0, 0.0], filter, fill),
        Op::ShearY(share) => affine(image, [1.0, 0.0, 0.0, share, 1.0, 0.0], filter, fill),
        Op::TranslateX(share) => affine(image, [1.0, 0.0, share * f64::from(image.width), 0.0, 1.0, 0.0], filter, fill),
        Op::TranslateY(share) => {
            affine(image, [1.0, 0.0, 0.0, 0.0, 1.0, share * f64::from(image.height)], filter, fill)
        }
    }
}

fn by_value(image: &mut Image, map: impl Fn(u8) -> u8) {
    image.rgb.iter_mut().for_each(|v| *v = map(*v));
}

/// Maps each channel through a lookup table computed from its histogram.
fn by_channel(image: &mut Image, table: impl Fn(&[u32; 256]) -> Option<[u8; 256]>) {
    for channel in 0..3 {
        let mut histogram = [0; 256];
        image.rgb.iter().skip(channel).step_by(3).for_each(|v| histogram[usize::from(*v)] += 1);
        if let Some(table) = table(&histogram) {
            image.rgb.iter_mut().skip(channel).step_by(3).for_each(|v| *v = table[usize::from(*v)]);
        }
    }
}

/// `ImageOps.autocontrast`.
fn stretched(histogram: &[u32; 256]) -> Option<[u8; 256]> {
    let low = histogram.iter().position(|n| *n > 0)?;
    let high = histogram.iter().rposition(|n| *n > 0)?;
    let scale = 255.0 / (high.checked_sub(low).filter(|range| *range > 0)? as f64);
    let offset = -(low as f64) * scale;
    Some(std::array::from_fn(|v| (v as f64 * scale + offset) as u8))
}

/// `ImageOps.equalize`.
fn flattened(histogram: &[u32; 256]) -> Option<[u8; 256]> {
    let last = *histogram.iter().rfind(|n| **n > 0)?;
    let step = (histogram.iter().sum::<u32>() - last) / 255;
    if histogram.iter().filter(|n| **n > 0).count() <= 1 || step == 0 {
        return None;
    }
    let mut sum = step / 2;
    Some(std::array::from_fn(|v| {
        let value = sum / step;
        sum += histogram[v];
        value.min(255) as u8
    }))
}

/// `ImageEnhance.Sharpness`: blends with the image smoothed by the 3x3 kernel (1 1 1, 1 5 1, 1 1 1)/13, whose border is
/// unchanged.
fn sharpen(image: &mut Image, factor: f32) {
    const SIDE: f32 = 1.0 / 13.0;
    const MIDDLE: f32 = 5.0 / 13.0;
    let (height, width) = image.size();
    if height < 3 || width < 3 {
        return;
    }
    let stride = width * 3;
    let source = image.rgb.clone();
    let rows = source.chunks_exact(stride);
    let neighbours = rows.clone().zip(rows.clone().skip(1)).zip(rows.skip(2));
    for (((above, own), below), out) in neighbours.zip(image.rgb.chunks_exact_mut(stride).skip(1)) {
        for (i, value) in out.iter_mut().enumerate().take(stride - 3).skip(3) {
            let row = |row: &[u8], middle: f32| {
                f32::from(row[i - 3]) * SIDE + f32::from(row[i]) * middle + f32::from(row[i + 3]) * SIDE
            };
            let smooth = f32::from((row(below, SIDE) + row(own, MIDDLE) + row(above, SIDE) + 0.5) as u8);
            *value = (smooth + factor * (f32::from(own[i]) - smooth)) as u8;
        }
    }
}

/// `Image.rotate` without expanding.
fn rotate(image: &mut Image, degrees: f64, filter: Filter, fill: [u8; 3]) {
    let degrees = degrees.rem_euclid(360.0);
    if degrees == 0.0 {
        return;
    }
    let round = |v: f64| (v * 1e15).round() / 1e15;
    let (sin, cos) = (-degrees.to_radians()).sin_cos();
    let (a, b, d, e) = (round(cos), round(sin), round(-sin), round(cos));
    let (x, y) = (f64::from(image.width) / 2.0, f64::from(image.height) / 2.0);
    affine(image, [a, b, a * -x + b * -y + x, d, e, d * -x + e * -y + y], filter, fill);
}

/// `Image.transform(.., AFFINE, [a, b, c, d, e, f])`: the pixel at (x, y) comes from (ax + by + c, dx + ey + f).
fn affine(image: &mut Image, [a, b, c, d, e, f]: [f64; 6], filter: Filter, fill: [u8; 3]) {
    let (height, width) = image.size();
    let source = std::mem::take(&mut image.rgb);
    let mut out = Vec::with_capacity(source.len());
    for y in 0..height {
        for x in 0..width {
            let (px, py) = (x as f64 + 0.5, y as f64 + 0.5);
            let (from_x, from_y) = (a * px + b * py + c, d * px + e * py + f);
            let inside = from_x >= 0.0 && from_x < width as f64 && from_y >= 0.0 && from_y < height as f64;
            out.extend(if inside {
                sample(&source, (height, width), from_x - 0.5, from_y - 0.5, filter)
            } else {
                fill
            });
        }
    }
    image.rgb = out;
}

/// Interpolates between pixels; pixels beyond the border repeat the border.
fn sample(rgb: &[u8], (height, width): (usize, usize), x: f64, y: f64, filter: Filter) -> [u8; 3] {
    let (x0, y0) = (x.floor(), y.floor());
    let (dx, dy) = (x - x0, y - y0);
    // Byte offset of a row or column at most two away from an inside one.
    let column = |j: isize| (x0 as isize + j).clamp(0, width as isize - 1) as usize * 3;
    let row = |i: isize| (y0 as isize + i).clamp(0, height as isize - 1) as usize * width * 3;
    match filter {
        Filter::Bilinear => {
            let (columns, rows) = ([0, 1].map(column), [0, 1].map(row));
            std::array::from_fn(|c| {
                let along = |row: usize| {
                    let [left, right] = columns.map(|column| f64::from(rgb[row + column + c]));
                    left + (right - left) * dx
                };
                let [upper, lower] = rows.map(along);
                (upper + (lower - upper) * dy) as u8
            })
        }
        Filter::Bicubic => {
            let (columns, rows) = ([-1, 0, 1, 2].map(column), [-1, 0, 1, 2].map(row));
            std::array::from_fn(|c| {
                let along = |row: usize| cubic(columns.map(|column| f64::from(rgb[row + column + c])), dx);
                cubic(rows.map(along), dy) as u8
            })
        }
    }
}

/// Pillow's cubic between the second and the third value (a = -1).
fn cubic([v1, v2, v3, v4]: [f64; 4], d: f64) -> f64 {
    let (p1, p2, p3, p4) = (v2, v3 - v1, 2.0 * (v1 - v2) + v3 - v4, -v1 + v2 - v3 + v4);
    p1 + d * (p2 + d * (p3 + d * p4))
}
