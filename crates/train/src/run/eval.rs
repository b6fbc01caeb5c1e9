//! Accuracy on a dataset.
use std::{sync::atomic::AtomicBool, time::Instant};

use heterodyne_data::EvalLoader;
use heterodyne_nn::{Labels, Pass};
use heterodyne_shim::upload::Upload;
use tch::{Device, Kind, Tensor};

use crate::{Error, Result, World, error::guarded, network::Network};

/// Bins of the calibration error.
const BINS: i64 = 15;

/// Results on the images of one split.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Percentage of images whose label has the largest logit.
    pub top1: f64,
    /// Percentage of images whose label is among the five largest logits; `None` for fewer than six classes.
    pub top5: Option<f64>,
    /// Mean cross-entropy, without smoothing.
    pub loss: f64,
    /// Number of images.
    pub images: usize,
    /// Number of different labels.
    pub classes: usize,
    /// Number of different predictions.
    pub answers: usize,
    /// Expected calibration error in percent ([`heterodyne_run::summary::Detail::calibration_error`]).
    pub calibration_error: f64,
    /// Number of images and of correct predictions for each class.
    pub per_class: Vec<(u64, u64)>,
    /// The prediction for each image, in the loader's order.
    pub predictions: Vec<i64>,
    /// Wall time in seconds.
    pub seconds: f64,
}

/// Runs `net` in evaluation mode over all images; sums stay on the device until the end. `each` receives the number of
/// images done.
pub fn evaluate(net: &Network, loader: &EvalLoader, each: impl FnMut(usize)) -> Result<Measured> {
    evaluate_until(net, loader, &AtomicBool::new(false), each)
}

/// Like [`evaluate`], but can be stopped.
///
/// # Errors
/// [`heterodyne_nn::Error::Stopped`] as soon as `stop` is set.
pub fn evaluate_until(
    net: &Network,
    loader: &EvalLoader,
    stop: &AtomicBool,
    each: impl FnMut(usize),
) -> Result<Measured> {
    evaluate_among(&World::alone(), net, loader, stop, each)
}

/// Like [`evaluate_until`], but every process of `world` runs a part of the images. All get the same result.
///
/// # Errors
/// As [`evaluate_until`], or another process cannot be reached.
pub fn evaluate_among(
    world: &World,
    net: &Network,
    loader: &EvalLoader,
    stop: &AtomicBool,
    each: impl FnMut(usize),
) -> Result<Measured> {
    guarded("evaluating", || measure(world, net, loader, stop, each))
}

fn measure(
    world: &World,
    net: &Network,
    loader: &EvalLoader,
    stop: &AtomicBool,
    mut each: impl FnMut(usize),
) -> Result<Measured> {
    let start = Instant::now();
    let device = net.device();
    let classes = net.taps().classes;
    // top-1 hits, top-5 hits, summed loss
    let mut sums = Tensor::zeros([3], (Kind::Double, device));
    // How often each class is the label, and how often it is the prediction.
    let counts = Tensor::zeros([2, classes], (Kind::Int64, device));
    // How often the prediction for a class's images is right.
    let mut right_c = Tensor::zeros([classes], (Kind::Int64, device));
    // Images, summed confidence and hits of each bin.
    let calibration = Tensor::zeros([3, BINS], (Kind::Double, device));
    let mut predictions = Vec::new();
    // For each class, the images whose logit is NaN or infinite.
    let mut flawed_c = Tensor::zeros([classes], (Kind::Int64, device));
    let mut done = 0usize;
    let images = loader.len();
    let upload = Upload::to(device)?;
    let own = loader.among(world.part(images));
    let mut batches = own.iter();
    while let Some(batch) = batches.next_until(stop) {
        let batch = batch?;
        let labels_b = upload.copy(&batch.labels)?;
        let logits_bc = net.infer(&upload.copy(&batch.images)?, Pass::EVAL)?.logits.to_kind(Kind::Float);
        let best = logits_bc.topk(5.min(classes), -1, true, true).1;
        let ones = labels_b.ones_like();
        let _ = counts.select(0, 0).index_add_(0, &labels_b, &ones);
        let _ = counts.select(0, 1).index_add_(0, &best.select(1, 0), &ones);
        let answer_b = best.select(1, 0);
        let hit_b = answer_b.eq_tensor(&labels_b);
        let _ = right_c.index_add_(0, &labels_b, &hit_b.to_kind(Kind::Int64));
        let confidence_b = logits_bc.softmax(-1, Kind::Float).amax([-1i64].as_slice(), false).to_kind(Kind::Double);
        let bin_b = ((&confidence_b * BINS as f64).ceil() - 1.0).clamp(0.0, (BINS - 1) as f64).to_kind(Kind::Int64);
        for (row, values) in [confidence_b.ones_like(), confidence_b, hit_b.to_kind(Kind::Double)].iter().enumerate() {
            let _ = calibration.select(0, row as i64).index_add_(0, &bin_b, values);
        }
        predictions.push(answer_b);
        let ranked = best.eq_tensor(&labels_b.unsqueeze(1)).to_kind(Kind::Double);
        let loss =
            Labels::Hard(labels_b).cross_entropy(&logits_bc, 0.0).to_kind(Kind::Double) * batch.indices.len() as f64;
        sums += Tensor::stack(&[ranked.narrow(1, 0, 1).sum(None::<Kind>), ranked.sum(None::<Kind>), loss], 0);
        flawed_c += logits_bc.isfinite().logical_not().sum_dim_intlist([0i64].as_slice(), false, Kind::Int64);
        done += batch.indices.len();
        each(done * world.size() as usize);
    }
    for total in [&sums, &counts, &right_c, &calibration, &flawed_c] {
        world.sum(total)?;
    }
    let none = Tensor::zeros([0], (Kind::Int64, device));
    let predictions = Tensor::cat(&std::iter::once(none).chain(predictions).collect::<Vec<_>>(), 0);
    let predictions = world.join(&predictions, images)?;
    let sums = Vec::<f64>::try_from(sums.to_device(Device::Cpu)).map_err(heterodyne_nn::Error::from)?;
    let percent = |count: f64| 100.0 * count / images as f64;
    let loss = sums[2] / images as f64;
    let flawed = Vec::<i64>::try_from(flawed_c.to_device(Device::Cpu)).map_err(heterodyne_nn::Error::from)?;
    if flawed.iter().any(|count| *count > 0) {
        return Err(Error::Plan(flaw(&net.name, &flawed, images)));
    }
    if !loss.is_finite() {
        return Err(Error::Plan(format!("the evaluation loss of {} is {loss}: its logits are too large", net.name)));
    }
    let seen = Vec::<i64>::try_from(
        counts.gt(0).sum_dim_intlist([1i64].as_slice(), false, Kind::Int64).to_device(Device::Cpu),
    );
    let seen = seen.map_err(heterodyne_nn::Error::from)?;
    let host = |t: &Tensor| Vec::<i64>::try_from(t.to_device(Device::Cpu)).map_err(heterodyne_nn::Error::from);
    let (images_c, right_c) = (host(&counts.select(0, 0))?, host(&right_c)?);
    let gap = (calibration.select(0, 1) - calibration.select(0, 2)).abs().sum(Kind::Double);
    Ok(Measured {
        calibration_error: percent(gap.double_value(&[])),
        per_class: images_c.into_iter().zip(right_c).map(|(n, right)| (n as u64, right as u64)).collect(),
        predictions: host(&predictions)?,
        top1: percent(sums[0]),
        top5: (classes > 5).then(|| percent(sums[1])),
        loss,
        images,
        classes: seen[0] as usize,
        answers: seen[1] as usize,
        seconds: start.elapsed().as_secs_f64(),
    })
}

/// Describes logits that are NaN or infinite; `flawed` counts the images for each class.
fn flaw(name: &str, flawed: &[i64], images: usize) -> String {
    let classes: Vec<String> =
        (0..flawed.len()).filter(|&class| flawed[class] > 0).map(|class| class.to_string()).collect();
    let most = flawed.iter().max().copied().unwrap_or_default();
    let which = match classes.len() {
        n if n == flawed.len() => "all classes".to_owned(),
        n if n > 10 => format!("{n} classes ({}, ..)", classes[..10].join(", ")),
        1 => format!("class {}", classes[0]),
        _ => format!("classes {}", classes.join(", ")),
    };
    format!(
        "the logits of {name} are NaN or infinite for up to {most} of {images} images ({which}): its weights or \
         activations have overflowed"
    )
}
