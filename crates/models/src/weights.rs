//! Weights on their way into a network: what is adapted, and what is said when they do not fit.
use std::path::Path;

use heterodyne_nn::{Error, LoadReport, Result, StageKind, StageSpec, Tensors, file, shim::NoGrad};
use tch::{Kind, Tensor};

use crate::Model;

const POS_EMBED: &str = "pos_embed";

impl Model {
    /// Copies `tensors` into the network and reports what was missing, unexpected, of another shape, or adapted; a caller that
    /// insists calls [`LoadReport::strict`]. A position embedding of another square grid is resampled. With `adapt_head` a
    /// classifier of another number of classes (or none) is left out and the network's fresh one stays.
    pub fn load(&self, tensors: &Tensors, adapt_head: bool) -> Result<LoadReport> {
        let _guard = NoGrad::new();
        let mut tensors: Tensors = tensors.iter().map(|(name, t)| (name.clone(), t.shallow_clone())).collect();
        let mut adapted = Vec::new();
        if let Some((resampled, how)) = self.fit_pos_embed(&tensors)? {
            tensors.insert(POS_EMBED.to_owned(), resampled);
            adapted.push(how);
        }
        let other_head = if adapt_head { self.other_head(&tensors) } else { None };
        if other_head.is_some() {
            tensors.retain(|name, _| !self.is_head(name));
        }
        let mut report = self.store.load(&tensors)?;
        if let Some(how) = other_head {
            report.missing.retain(|name| !self.is_head(name));
            adapted.push(how);
        }
        report.adapted = adapted;
        Ok(report)
    }

    /// As [`Model::load`], from a safetensors file, strictly.
    pub fn load_file(&self, path: &Path, adapt_head: bool) -> Result<LoadReport> {
        let (tensors, _) = file::read(path)?;
        self.load_strict(&tensors, &path.display().to_string(), adapt_head)
    }

    /// As [`Model::load`]; an error that shows the report where not every tensor found its counterpart. `from` names the file.
    pub fn load_strict(&self, tensors: &Tensors, from: &str, adapt_head: bool) -> Result<LoadReport> {
        let report = self.load(tensors, adapt_head)?;
        if let (false, Some(classes)) = (report.is_clean(), self.classes_if_only_head_differs(&report)) {
            let (name, own) = (self.def.name, self.net.taps().classes);
            return Err(Error::Weights(format!(
                "{from}: the weights are those of a {name} with {classes} classes, and this one has {own}\n  set `adapt_head = true` to start \
                 with a new classifier, or check the number of classes",
            )));
        }
        report.strict(&format!("{from} into {} at {} px", self.def.name, self.img))
    }

    /// The position embedding of `tensors` on this network's grid, and a sentence about it; `None` where it fits as it is, or
    /// cannot be made to fit.
    fn fit_pos_embed(&self, tensors: &Tensors) -> Result<Option<(Tensor, String)>> {
        let Some(theirs) = tensors.get(POS_EMBED) else { return Ok(None) };
        let Some((_, own, _)) = self.store.entries().into_iter().find(|(name, ..)| name == POS_EMBED) else { return Ok(None) };
        let (&[1, n, d], &[1, own_n, own_d]) = (&theirs.size()[..], &own.size()[..]) else { return Ok(None) };
        let Some(&StageSpec { kind: StageKind::Tokens { prefix }, grid: (h, w), .. }) = self.net.taps().stages.first() else {
            return Ok(None);
        };
        let side = ((n - prefix).max(0) as f64).sqrt() as i64;
        if n == own_n || d != own_d || side < 1 || side * side != n - prefix {
            return Ok(None);
        }
        let how = format!("{POS_EMBED}: resampled from a grid of {side}x{side} to {h}x{w}");
        Ok(Some((resample_pos_embed(theirs, prefix, (side, side), (h, w))?, how)))
    }

    /// A sentence about the classifier of `tensors` where it is not of this network's number of classes.
    fn other_head(&self, tensors: &Tensors) -> Option<String> {
        let (own, head) = (self.net.taps().classes, self.def.head);
        match tensors.iter().find(|(name, _)| self.is_head(name)) {
            None => Some(format!("{head}: not in the file, starts new with {own} classes")),
            Some((_, t)) if t.size().first() == Some(&own) => None,
            Some((_, t)) => {
                Some(format!("{head}: of {} classes in the file, starts new with {own}", t.size().first().copied().unwrap_or(1)))
            }
        }
    }

    /// The file's number of classes where everything but the classifier fits.
    fn classes_if_only_head_differs(&self, report: &LoadReport) -> Option<i64> {
        let rest_fits =
            report.missing.is_empty() && report.unexpected.is_empty() && report.mismatched.iter().all(|(name, ..)| self.is_head(name));
        let (_, theirs, _) = report.mismatched.first()?;
        if rest_fits { theirs.first().copied() } else { None }
    }

    fn is_head(&self, name: &str) -> bool {
        name.strip_prefix(self.def.head).is_some_and(|rest| rest.starts_with('.'))
    }
}

/// `pos_embed` (1, prefix + h*w, D) from one grid to another: bicubic with antialias, the prefix kept
/// (`timm.layers.resample_abs_pos_embed`).
fn resample_pos_embed(pos_embed: &Tensor, prefix: i64, (h, w): (i64, i64), (new_h, new_w): (i64, i64)) -> Result<Tensor> {
    let d = pos_embed.size()[2];
    let map = pos_embed.f_narrow(1, prefix, h * w)?.f_to_kind(Kind::Float)?.f_reshape([1, h, w, d])?.f_permute([0, 3, 1, 2])?;
    let map = map.f_internal_upsample_bicubic2d_aa([new_h, new_w], false, None, None)?;
    let places = map.f_permute([0, 2, 3, 1])?.f_reshape([1, new_h * new_w, d])?.f_to_kind(pos_embed.kind())?;
    Ok(Tensor::f_cat(&[pos_embed.f_narrow(1, 0, prefix)?, places], 1)?)
}
