//! Flags that say how a network is shown an image.
use heterodyne_run::recipe::schema::NetworkTable;

/// `--img`, `--mean`, `--std`, `--crop-pct`, `--crop-mode` and `--interpolation`.
#[derive(Clone, Debug, clap::Args)]
pub struct PresentArgs {
    /// Input size in pixels; what the weights say, else the model's default
    #[arg(long)]
    img: Option<i64>,
    /// Channel means, comma-separated
    #[arg(long, value_name = "R,G,B", value_parser = channels)]
    mean: Option<[f64; 3]>,
    /// Channel standard deviations, comma-separated
    #[arg(long, value_name = "R,G,B", value_parser = spreads)]
    std: Option<[f64; 3]>,
    /// Share of the resized side that the crop in the middle keeps; what the weights say, else 1 for images that are
    /// all of one size, else the model's
    #[arg(long, value_parser = share)]
    crop_pct: Option<f64>,
    /// Side that is resized: center (the shorter), squash (both) or border (the longer)
    #[arg(long, value_parser = ["center", "squash", "border"])]
    crop_mode: Option<String>,
    /// Filter of the resizing
    #[arg(long, value_parser = ["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"])]
    interpolation: Option<String>,
}

impl PresentArgs {
    /// Writes what is given into the table.
    pub fn lay_over(&self, table: &mut NetworkTable) {
        table.img = self.img.or(table.img);
        table.mean = self.mean.or(table.mean);
        table.std = self.std.or(table.std);
        table.crop_pct = self.crop_pct.or(table.crop_pct);
        table.crop_mode = self.crop_mode.clone().or(table.crop_mode.take());
        table.interpolation = self.interpolation.clone().or(table.interpolation.take());
    }

    /// The input size.
    pub fn img(&self) -> Option<i64> {
        self.img
    }
}

fn channels(text: &str) -> Result<[f64; 3], String> {
    let numbers: Vec<f64> =
        text.split(',').filter_map(|part| part.trim().parse().ok()).filter(|x: &f64| x.is_finite()).collect();
    match numbers[..] {
        [r, g, b] if text.split(',').count() == 3 => Ok([r, g, b]),
        _ => Err("expected three numbers, for example 0.485,0.456,0.406".to_owned()),
    }
}

fn spreads(text: &str) -> Result<[f64; 3], String> {
    let std = channels(text)?;
    if std.iter().all(|s| *s > 0.0) { Ok(std) } else { Err("a standard deviation is greater than 0".to_owned()) }
}

fn share(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|share| *share > 0.0 && *share <= 1.0)
        .ok_or_else(|| "a share of the image is more than 0 and at most 1".to_owned())
}
