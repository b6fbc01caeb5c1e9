//! A set of small images that stays on a device: batches are cut out and mirrored there, from the same draws and to the
//! same bytes as in the loader's threads. The threads then only draw.
use heterodyne_nn::{Error, Result, shim::upload};
use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

use crate::{Augment, Dataset, Random, augment::Crop, transforms};

/// Largest size of a resident set in bytes.
const LARGEST: usize = 1 << 30;
/// Images that are decoded together.
const PART: usize = 1024;

/// What training does to an image that it only moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// First row and column of the window in the padded image.
    pub corner: (usize, usize),
    /// Whether it is mirrored left and right.
    pub flip: bool,
}

/// Padded images on a device.
#[derive(Debug)]
pub struct Resident {
    /// uint8 (N * padded * padded, 3): the pixels of all images in rows from the top.
    pixels: Tensor,
    side: i64,
    padded: i64,
}

/// Numbers of an image in [`Resident::request`].
const NUMBERS: usize = 4;

impl Resident {
    /// Brings the images `indices` of `dataset` to `device`; `None` if the augmentation does more than move them, if
    /// they are not all of `side` pixels, or if they are too many.
    ///
    /// # Errors
    /// An image cannot be read, or the device's memory is full.
    pub fn of(
        dataset: &dyn Dataset,
        indices: &[usize],
        side: u32,
        augment: &Augment,
        device: Device,
    ) -> Result<Option<Self>> {
        let side = side as usize;
        let pad = if augment.crop == Crop::Pad { augment.pad as usize } else { 0 };
        let padded = side + 2 * pad;
        let bytes = padded * padded * 3;
        if !augment.only_moves() || indices.len().saturating_mul(bytes) > LARGEST {
            return Ok(None);
        }
        let mut parts = Vec::new();
        for part in indices.chunks(PART) {
            let mut pixels = upload::bytes(part.len() * bytes, false)?;
            let places = upload::bytes_mut(&mut pixels)?.par_chunks_exact_mut(bytes);
            let fits = part.par_iter().zip(places).map(|(&index, place)| {
                let image = dataset.image(index)?;
                let fits = image.size() == (side, side);
                if fits {
                    place.copy_from_slice(&transforms::padded(&image, pad, augment.pad_mode).rgb);
                }
                Ok::<_, Error>(fits)
            });
            if !fits.try_reduce(|| true, |a, b| Ok(a && b))? {
                return Ok(None);
            }
            parts.push(pixels.f_to(device)?.f_view([-1, 3])?);
        }
        let pixels = Tensor::f_cat(&parts, 0)?;
        Ok(Some(Self { pixels, side: side as i64, padded: padded as i64 }))
    }

    /// The numbers that [`Resident::render`] takes, four for each image: its position among the resident ones and its
    /// move.
    pub fn request(moves: impl Iterator<Item = (usize, Move)>) -> Vec<i64> {
        let row = |(position, m): (usize, Move)| -> [i64; NUMBERS] {
            [position as i64, m.corner.0 as i64, m.corner.1 as i64, i64::from(m.flip)]
        };
        moves.flat_map(row).collect()
    }

    /// The images that `request`, int64 (4 B), asks for: uint8 (B,3,side,side) on the device, channels-last in memory.
    /// The host does not wait if the request is in pinned memory.
    ///
    /// # Errors
    /// libtorch refuses it.
    pub fn render(&self, request: &Tensor) -> Result<Tensor> {
        let (device, side) = (self.pixels.device(), self.side);
        let request = request.f_to_device_(device, Kind::Int64, true, false)?.f_view([-1, NUMBERS as i64])?;
        // (B,1,1), to be combined with rows (side,1) and columns (side).
        let column = |k: i64| request.select(1, k).view([-1, 1, 1]);
        let (position, top, left, flip) = (column(0), column(1), column(2), column(3));
        let line = Tensor::f_arange(side, (Kind::Int64, device))?;
        let x: Tensor = flip * (&line * -2 + (side - 1)) + &line + left;
        let y: Tensor = position * self.padded + top + line.view([side, 1]);
        let places = (y * self.padded + x).flatten(0, -1);
        let images = self.pixels.f_index_select(0, &places)?;
        Ok(images.f_view([-1, side, side, 3])?.f_permute([0, 3, 1, 2])?)
    }

    /// Their number.
    #[must_use]
    pub fn len(&self) -> usize {
        (self.pixels.size()[0] / (self.padded * self.padded)) as usize
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Augment {
    /// Whether it changes nothing but the place and the direction of an image that has its size already.
    #[must_use]
    pub fn only_moves(&self) -> bool {
        let jitter = self.brightness + self.contrast + self.saturation;
        self.crop != Crop::Resized && jitter == 0.0 && self.rand_augment.is_none() && self.erase == 0.0
    }

    /// A move of one image, from the draws that [`Augment::apply`] makes, in their order.
    pub(crate) fn draw_move(&self, rng: &mut Random) -> Move {
        self.draw_filter(rng);
        Move { corner: self.draw_corner(rng), flip: rng.chance(self.flip) }
    }
}
