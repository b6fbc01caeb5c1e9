//! Resamples and normalises a batch for one network.
use heterodyne_nn::{InputSpec, Result, shim};
use tch::{Device, Kind, Tensor};

/// One network's view of a batch: its own input size and its own normalisation.
#[derive(Debug)]
pub struct View {
    /// Side of the network's input.
    pub img: i64,
    /// Per-channel mean, of values in 0..1.
    pub mean: [f64; 3],
    /// Per-channel standard deviation, of values in 0..1.
    pub std: [f64; 3],
    /// 1 / (255 std), float32 (1,3,1,1) on the device.
    scale: Tensor,
    /// -mean / std, float32 (1,3,1,1) on the device.
    shift: Tensor,
}

impl View {
    /// The view of a network on `device`.
    ///
    /// # Errors
    /// `img` is below 1, a standard deviation is not positive, a number is not finite, or the device fails.
    pub fn new(img: i64, mean: [f64; 3], std: [f64; 3], device: Device) -> Result<Self> {
        InputSpec::whole(img, mean, std).check()?;
        let constant =
            |values: [f64; 3]| Tensor::f_from_slice(&values.map(|v| v as f32))?.f_view([1, 3, 1, 1])?.f_to(device);
        let scale = constant(std.map(|s| 1.0 / (255.0 * s)))?;
        let shift = constant([0, 1, 2].map(|c| -mean[c] / std[c]))?;
        Ok(Self { img, mean, std, scale, shift })
    }

    /// (B,3,H,W) of levels 0..255 (uint8, or float32 after mixing) to float32 (B,3,img,img) on this view's device,
    /// channels-last: (x / 255 - mean) / std, resampled if the sizes differ.
    ///
    /// Enlarging is `F.interpolate(mode="bicubic", align_corners=False)`; shrinking a side is the same with
    /// `antialias=True`. Nothing waits for the device, except the upload of a batch that is still on the CPU. If
    /// several networks share a batch, upload it once and give each view the result. Panics if the shape is not
    /// (B,3,H,W), as libtorch's operators do.
    pub fn apply(&self, images: &Tensor) -> Tensor {
        let levels = images.to_device(self.scale.device());
        let (_, _, height, width) = levels.size4().unwrap_or_default();
        let img = self.img;
        let out = if (height, width) == (img, img) {
            self.normalise(&levels)
        } else if height > img || width > img {
            let small = levels.to_kind(Kind::Float).internal_upsample_bicubic2d_aa([img, img], false, None, None);
            self.normalise(&small)
        } else {
            // The kernel's weights sum to 1, so normalising the smaller image gives the same result at less cost.
            self.normalise(&levels).upsample_bicubic2d([img, img], false, None, None)
        };
        shim::channels_last(&out).unwrap_or(out)
    }

    /// x * scale + shift, in float32.
    fn normalise(&self, levels: &Tensor) -> Tensor {
        (levels * &self.scale).g_add_(&self.shift)
    }
}
