//! Loads weights into a network: adapts what can be adapted, and explains what does not fit.
use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
};

use heterodyne_nn::{Error, LoadReport, Result, StageKind, StageSpec, Tensors, file, shim::NoGrad};
use tch::{Kind, Tensor};

use crate::{
    Checkpoint, Model,
    select::{self, Selection},
    translate::{self, Translated},
};

const POS_EMBED: &str = "pos_embed";
const BIAS_TABLE: &str = "relative_position_bias_table";

/// Suffixes of tensors that follow from a Swin's sizes; older files store them.
const DERIVED: [&str; 2] = [".relative_position_index", ".attn_mask"];

impl Model {
    /// Copies `tensors` into the network and reports what was missing, unexpected, of another shape, adapted, or left
    /// out. Call [`LoadReport::strict`] to turn an incomplete match into an error. Names from torchvision and other
    /// sources are converted to timm's. A position embedding for another square grid is resampled, and so are
    /// relative-position bias tables for other window sizes. With `adapt_head`, the network keeps its fresh classifier
    /// if the file's has another number of classes or is absent.
    pub fn load(&self, tensors: &Tensors, adapt_head: bool) -> Result<LoadReport> {
        self.load_selected(tensors, adapt_head, &Selection::default())
    }

    fn load_selected(&self, tensors: &Tensors, adapt_head: bool, selection: &Selection) -> Result<LoadReport> {
        let _guard = NoGrad::new();
        let Translated { mut tensors, mut adapted, left_out } =
            translate::to_timm(self.def.family, &self.store.tensors(), tensors, selection)?;
        tensors.retain(|name, _| !DERIVED.iter().any(|end| name.ends_with(end)));
        adapted.extend(self.fit_bias_tables(&mut tensors)?);
        if let Some((resampled, how)) = self.fit_pos_embed(&tensors)? {
            tensors.insert(POS_EMBED.to_owned(), resampled);
            adapted.push(how);
        }
        let other_head = if adapt_head { self.other_head(&tensors) } else { None };
        if other_head.is_some() {
            tensors.retain(|name, _| !self.def.is_head(name));
        }
        let mut report = self.store.load(&tensors)?;
        if let Some(how) = other_head {
            report.missing.retain(|name| !self.def.is_head(name));
            adapted.push(how);
        }
        (report.adapted, report.left_out) = (adapted, left_out);
        Ok(report)
    }

    /// As [`Model::load_strict`], from a safetensors file.
    pub fn load_file(&self, path: &Path, adapt_head: bool) -> Result<LoadReport> {
        let (tensors, _) = file::read(path)?;
        self.load_strict(&tensors, &path.display().to_string(), adapt_head)
    }

    /// As [`Model::load`], but if not every tensor has a counterpart, returns an error that shows the report. `from`
    /// names the file.
    pub fn load_strict(&self, tensors: &Tensors, from: &str, adapt_head: bool) -> Result<LoadReport> {
        self.load_checkpoint(&Checkpoint { tensors, from, adapt_head, selection: &Selection::default() })
    }

    /// As [`Model::load_strict`], for the tensors that the checkpoint's [`Selection`] selects.
    ///
    /// # Errors
    /// Not every tensor has a counterpart, or the selection fails.
    pub fn load_checkpoint(&self, checkpoint: &Checkpoint) -> Result<LoadReport> {
        let Checkpoint { tensors, from, adapt_head, selection } = *checkpoint;
        let report = self.load_selected(tensors, adapt_head, selection).map_err(|e| match e {
            Error::Invalid(message) => Error::Weights(format!("{from}: {message}")),
            other => other,
        })?;
        if let (false, Some(classes)) = (report.is_clean(), self.classes_if_only_head_differs(&report)) {
            let (name, own) = (self.def.name, self.net.taps().classes);
            return Err(Error::Weights(format!(
                "{from}: the weights are for a {name} with {classes} classes, but this one has {own}\n  hint: \
                 `adapt_head = true` (`--set student.adapt_head=true`) starts with a new classifier; or check the \
                 number of classes",
            )));
        }
        let advice = self.advice(&report);
        report.strict(&format!("{from} into {} at {} px", self.def.name, self.img)).map_err(|e| match (e, advice) {
            (Error::Weights(text), Some(advice)) => Error::Weights(format!("{text}\n  {advice}")),
            (e, _) => e,
        })
    }

    /// Advice for weights that mostly fit.
    fn advice(&self, report: &LoadReport) -> Option<String> {
        let own: HashSet<String> = self.store.entries().into_iter().map(|(name, ..)| name).collect();
        let has = |names: &[String], part: &str| names.iter().any(|name| name.starts_with(part));
        if self.def.family == "vit" && has(&report.unexpected, "fc_norm.") && has(&report.missing, "norm.") {
            return Some(
                "the file's network averages its patches before the last norm: set the model's option `pool = \"avg\"`"
                    .to_owned(),
            );
        }
        if self.def.family == "vit" && has(&report.unexpected, "norm.") && has(&report.missing, "fc_norm.") {
            return Some(
                "the file's network has its last norm before the pooling: set the model's option `fc_norm = false`, \
                 or `pool = \"token\"`"
                    .to_owned(),
            );
        }
        let rest_fits = report.mismatched.is_empty() && report.missing.iter().all(|name| self.def.is_head(name));
        let patterns = if rest_fits { select::proposal(&report.unexpected, &own) } else { None };
        let head = (rest_fits && !report.missing.is_empty())
            .then(|| "`adapt_head = true` (`--set student.adapt_head=true`) starts with a new classifier".to_owned());
        let others = patterns.map(|patterns| {
            let list: Vec<_> = patterns.iter().map(|pattern| format!("\"{pattern}\"")).collect();
            format!("to leave out what the network does not have, set `ignore = [{}]`", list.join(", "))
        });
        let advice: Vec<_> = others.into_iter().chain(head).collect();
        (!advice.is_empty()).then(|| advice.join("; "))
    }

    /// The position embedding of `tensors`, resampled to this network's grid, and a sentence about it. `None` if it
    /// already fits or cannot be made to fit.
    fn fit_pos_embed(&self, tensors: &Tensors) -> Result<Option<(Tensor, String)>> {
        let Some(theirs) = tensors.get(POS_EMBED) else { return Ok(None) };
        let Some((_, own, _)) = self.store.entries().into_iter().find(|(name, ..)| name == POS_EMBED) else {
            return Ok(None);
        };
        let (&[1, n, d], &[1, own_n, own_d]) = (&theirs.size()[..], &own.size()[..]) else { return Ok(None) };
        let Some(&StageSpec { kind: StageKind::Tokens { prefix }, grid: (h, w), .. }) = self.net.taps().stages.first()
        else {
            return Ok(None);
        };
        let side = ((n - prefix).max(0) as f64).sqrt() as i64;
        if n == own_n || d != own_d || side < 1 || side * side != n - prefix {
            return Ok(None);
        }
        let how = format!("{POS_EMBED}: resampled from a grid of {side}x{side} to {h}x{w}");
        Ok(Some((resample_pos_embed(theirs, prefix, (side, side), (h, w))?, how)))
    }

    /// Resamples the bias tables of `tensors` whose window size differs from this network's, and returns a sentence for
    /// each pair of sizes. Tables that cannot be made to fit stay unchanged.
    fn fit_bias_tables(&self, tensors: &mut Tensors) -> Result<Vec<String>> {
        let mut resampled = BTreeMap::new();
        for (name, own, _) in self.store.entries().iter().filter(|(name, ..)| name.ends_with(BIAS_TABLE)) {
            let Some(theirs) = tensors.get_mut(name) else { continue };
            let (Some((old, heads)), Some((new, own_heads))) = (window_and_heads(theirs), window_and_heads(own)) else {
                continue;
            };
            if old != new && heads == own_heads {
                *theirs = resample_bias_table(theirs, old, new)?;
                *resampled.entry((old, new)).or_insert(0) += 1;
            }
        }
        let sentence =
            |((old, new), count)| format!("{BIAS_TABLE}: {count} resampled from windows of {old}x{old} to {new}x{new}");
        Ok(resampled.into_iter().map(sentence).collect())
    }

    /// A sentence about the classifier of `tensors` if its number of classes is not this network's.
    fn other_head(&self, tensors: &Tensors) -> Option<String> {
        let (own, head) = (self.net.taps().classes, self.def.head);
        match tensors.iter().find(|(name, _)| self.def.is_head(name)) {
            None => Some(format!("{head}: not in the file; starts fresh with {own} classes")),
            Some((_, t)) if t.size().first() == Some(&own) => None,
            Some((_, t)) => Some(format!(
                "{head}: {} classes in the file; starts fresh with {own}",
                t.size().first().copied().unwrap_or(1)
            )),
        }
    }

    /// The file's number of classes, if everything but the classifier fits.
    fn classes_if_only_head_differs(&self, report: &LoadReport) -> Option<i64> {
        let rest_fits = report.missing.is_empty()
            && report.unexpected.is_empty()
            && report.mismatched.iter().all(|(name, ..)| self.def.is_head(name));
        let (_, theirs, _) = report.mismatched.first()?;
        if rest_fits { theirs.first().copied() } else { None }
    }
}

/// Resamples `pos_embed` (1, prefix + h*w, D) from one grid to another: bicubic with antialiasing, the prefix unchanged
/// (`timm.layers.resample_abs_pos_embed`).
fn resample_pos_embed(
    pos_embed: &Tensor,
    prefix: i64,
    (h, w): (i64, i64),
    (new_h, new_w): (i64, i64),
) -> Result<Tensor> {
    let d = pos_embed.size()[2];
    let map = pos_embed
        .f_narrow(1, prefix, h * w)?
        .f_to_kind(Kind::Float)?
        .f_reshape([1, h, w, d])?
        .f_permute([0, 3, 1, 2])?;
    let map = map.f_internal_upsample_bicubic2d_aa([new_h, new_w], false, None, None)?;
    let places = map.f_permute([0, 2, 3, 1])?.f_reshape([1, new_h * new_w, d])?.f_to_kind(pos_embed.kind())?;
    Ok(Tensor::f_cat(&[pos_embed.f_narrow(1, 0, prefix)?, places], 1)?)
}

/// The window's side and the number of heads of a table ((2*side-1)^2, heads).
fn window_and_heads(table: &Tensor) -> Option<(i64, i64)> {
    let &[distances, heads] = &table.size()[..] else { return None };
    let side = ((distances as f64).sqrt() as i64 + 1) / 2;
    (side > 0 && (2 * side - 1) * (2 * side - 1) == distances).then_some((side, heads))
}

/// Resamples a table of relative-position biases from windows of side `old` to `new`: linear interpolation between the
/// distances of [`spread_distances`] along both axes (`timm.layers.resize_rel_pos_bias_table`, after BEiT, Bao et al.
/// 2022).
fn resample_bias_table(table: &Tensor, old: i64, new: i64) -> Result<Tensor> {
    let (from, to, heads) = (2 * old - 1, 2 * new - 1, table.size()[1]);
    let distances = spread_distances(old - 1, new - 1);
    let weights: Vec<f64> = (1 - new..new).flat_map(|at| linear_weights(&distances, at as f64)).collect();
    let weights = Tensor::from_slice(&weights).f_to(table.device())?.f_reshape([to, from])?;
    let rows = weights.f_matmul(&table.f_to_kind(Kind::Double)?.f_reshape([from, from * heads])?)?;
    let both = weights.f_matmul(&rows.f_reshape([to, from, heads])?)?;
    Ok(both.f_reshape([to * to, heads])?.f_to_kind(table.kind())?)
}

/// The positions in the new window that stand for the distances -steps..=steps of the old one: 0, 1, 1+q, 1+q+q^2, ..
/// on either side, with q between 1.01 and 1.5 such that the last one is at `reach`. Near positions keep their bias;
/// far ones are spread out.
fn spread_distances(steps: i64, reach: i64) -> Vec<f64> {
    let length = |q: f64, steps: i64| (q.powi(steps as i32) - 1.0) / (q - 1.0);
    let (mut low, mut high, mut q) = (1.01, 1.5, 1.01);
    while high - low > 1e-6 {
        q = (low + high) / 2.0;
        if length(q, steps) > reach as f64 {
            high = q;
        } else {
            low = q;
        }
    }
    (-steps..=steps).map(|step| length(q, step.abs()) * step.signum() as f64).collect()
}

/// Linear interpolation weights for the value at `at` from the values at the ascending `points`: those of its two
/// neighbours, or of the nearest end point outside their range.
fn linear_weights(points: &[f64], at: f64) -> Vec<f64> {
    let mut weights = vec![0.0; points.len()];
    match points.partition_point(|&p| p < at) {
        0 => weights[0] = 1.0,
        right if right == points.len() => weights[right - 1] = 1.0,
        right => {
            let share = (at - points[right - 1]) / (points[right] - points[right - 1]);
            weights[right - 1] = 1.0 - share;
            weights[right] = share;
        }
    }
    weights
}
