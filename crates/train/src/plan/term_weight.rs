//! The weight of a method as a pure function of the epoch, and the recipe keys that define it.
use std::{f64::consts::PI, fmt};

use heterodyne_settings::{KeyError, Settings, settings};
use serde::{Deserialize, Serialize};

/// How a weight changes after its warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// Constant.
    #[default]
    None,
    /// Linear decay.
    Linear,
    /// Half a cosine.
    Cosine,
    /// A single step.
    Step,
}

settings! {
    /// The keys of a method's table besides the method's own. Times are in epochs; the weight changes at every step.
    pub struct Weight {
        /// Factor of the method's whole loss; 0 leaves the method out.
        // Beyond this bound, the square of a gradient soon overflows float32.
        weight: f64 = 1.0, Ours, between(0.0, 1e9);
        /// Epochs over which the weight rises linearly from 0.
        warmup_epochs: f64 = 0.0, Ours;
        /// How the weight changes later: "none", "linear" or "cosine" from `decay_start` to `decay_end`, "step" at
        /// `decay_start`.
        decay: Decay = Decay::None, Ours;
        /// Epoch at which the decay starts; the end of the warm-up if that is later.
        decay_start: f64 = 0.0, Ours;
        /// Epoch at which a linear or cosine decay ends; the last epoch if not set.
        decay_end: Option<f64> = None, Ours;
        /// Share of the weight that is left after the decay.
        decay_to: f64 = 0.0, Ours, between(0.0, 1.0);
        /// Standardises both networks' logits first (Sun et al. 2024, arXiv 2403.01427); for kd, bkd, dkd, dist, uhkd
        /// and lfcc.
        pub logit_std: bool = false, Ours;
    }
}

impl Weight {
    /// Removes the weight's keys from a method's table and checks them for a run of `epochs`.
    pub fn take(table: &mut toml::Table, epochs: u32) -> Result<Self, KeyError> {
        let own = Self::KEYS.iter().filter_map(|key| table.remove_entry(key.name)).collect();
        let w = Self::read(&own)?;
        let end = f64::from(epochs);
        demand(
            "warmup_epochs",
            w.warmup_epochs,
            (0.0..=end).contains(&w.warmup_epochs),
            &format!("0 to the number of epochs, {epochs}"),
        )?;
        demand(
            "decay_start",
            w.decay_start,
            (0.0..=end).contains(&w.decay_start),
            &format!("0 to the number of epochs, {epochs}"),
        )?;
        if let Some(decay_end) = w.decay_end {
            demand("decay_end", decay_end, decay_end > w.start(), "a number above `decay_start` and `warmup_epochs`")?;
        }
        if w.decay == Decay::None
            && let Some(key) = ["decay_start", "decay_end", "decay_to"]
                .into_iter()
                .find(|&key| own.contains_key(key) && !w.is_default(key))
        {
            return Err(KeyError::new(
                key,
                "has no effect because `decay` is \"none\": choose \"linear\", \"cosine\" or \"step\"",
            ));
        }
        Ok(w)
    }

    /// Whether the weight is nonzero.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.weight > 0.0
    }

    /// The weight at the fractional `epoch` of a run of `epochs`.
    #[must_use]
    pub fn at(&self, epoch: f64, epochs: f64) -> f64 {
        if epoch < self.warmup_epochs {
            return self.weight * epoch / self.warmup_epochs;
        }
        let (start, end) = (self.start(), self.decay_end.unwrap_or(epochs));
        let done = ((epoch - start) / (end - start).max(f64::MIN_POSITIVE)).clamp(0.0, 1.0);
        let gone = match self.decay {
            Decay::None => 0.0,
            Decay::Linear => done,
            Decay::Cosine => (1.0 - (PI * done).cos()) / 2.0,
            Decay::Step => f64::from(u8::from(epoch >= start)),
        };
        self.weight * (1.0 - gone + gone * self.decay_to)
    }

    /// The epoch of a run of `epochs` from which the weight stays 0, if there is one. It follows from the keys: the
    /// value may round to 0 a little earlier.
    #[must_use]
    pub fn end(&self, epochs: f64) -> Option<f64> {
        let end = match self.decay {
            Decay::None => return None,
            Decay::Linear | Decay::Cosine => self.decay_end.unwrap_or(epochs),
            Decay::Step => self.start(),
        };
        (self.decay_to == 0.0).then_some(end)
    }

    fn start(&self) -> f64 {
        self.decay_start.max(self.warmup_epochs)
    }

    /// A stored plan holds every key, so a key at its default value does not count as set.
    fn is_default(&self, key: &str) -> bool {
        match key {
            "decay_start" => self.decay_start == 0.0,
            "decay_end" => self.decay_end.is_none(),
            _ => self.decay_to == 0.0,
        }
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "weight {}", self.weight)?;
        if self.warmup_epochs > 0.0 {
            write!(f, ", warm-up to epoch {}", self.warmup_epochs)?;
        }
        let end = self.decay_end.map_or_else(|| "the end".to_owned(), |end| format!("epoch {end}"));
        match self.decay {
            Decay::None => {}
            Decay::Linear => write!(f, ", linear from epoch {} to {} of it at {end}", self.start(), self.decay_to)?,
            Decay::Cosine => write!(f, ", cosine from epoch {} to {} of it at {end}", self.start(), self.decay_to)?,
            Decay::Step => write!(f, ", {} of it from epoch {}", self.decay_to, self.start())?,
        }
        if self.logit_std { write!(f, ", standardised logits") } else { Ok(()) }
    }
}

fn demand(key: &str, value: f64, holds: bool, wanted: &str) -> Result<(), KeyError> {
    if holds && value.is_finite() {
        Ok(())
    } else {
        Err(KeyError::new(key, format!("{value} is out of range, expected {wanted}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(text: &str) -> Weight {
        Weight::take(&mut text.parse().unwrap(), 20).unwrap()
    }

    fn refused(text: &str) -> KeyError {
        Weight::take(&mut text.parse().unwrap(), 20).unwrap_err()
    }

    fn values(w: &Weight, expected: &[(f64, f64)]) {
        for (epoch, value) in expected {
            assert!((w.at(*epoch, 20.0) - value).abs() < 1e-12, "{w:?} at {epoch}: {}", w.at(*epoch, 20.0));
        }
    }

    #[test]
    fn it_rises_stays_and_falls() {
        values(&weight("weight = 3"), &[(0.0, 3.0), (19.9, 3.0)]);
        values(&weight("weight = 2.0\nwarmup_epochs = 5"), &[(0.0, 0.0), (2.5, 1.0), (5.0, 2.0), (20.0, 2.0)]);
        let w = weight("weight = 2.0\nwarmup_epochs = 4\ndecay = \"linear\"\ndecay_start = 10\ndecay_to = 0.5");
        values(&w, &[(2.0, 1.0), (4.0, 2.0), (10.0, 2.0), (15.0, 1.5), (20.0, 1.0)]);
        let w = weight("decay = \"cosine\"\ndecay_start = 10\ndecay_end = 14");
        values(&w, &[(0.0, 1.0), (10.0, 1.0), (12.0, 0.5), (14.0, 0.0), (18.0, 0.0)]);
        values(
            &weight("decay = \"step\"\ndecay_start = 10\ndecay_to = 0.1"),
            &[(9.999, 1.0), (10.0, 0.1), (20.0, 0.1)],
        );
        // A decay from the start begins where the warm-up ends.
        values(&weight("warmup_epochs = 10\ndecay = \"linear\""), &[(5.0, 0.5), (10.0, 1.0), (15.0, 0.5), (20.0, 0.0)]);
    }

    #[test]
    fn it_ends_where_it_will_never_rise_again() {
        for (text, end) in [
            ("weight = 3", None),
            ("warmup_epochs = 5", None),
            ("decay = \"linear\"\ndecay_to = 0.1", None),
            ("decay = \"linear\"", Some(20.0)),
            ("decay = \"cosine\"", Some(20.0)),
            ("warmup_epochs = 5\ndecay = \"cosine\"\ndecay_start = 10\ndecay_end = 14", Some(14.0)),
            ("warmup_epochs = 5\ndecay = \"step\"", Some(5.0)),
            ("decay = \"step\"\ndecay_start = 7", Some(7.0)),
        ] {
            let w = weight(text);
            assert_eq!(w.end(20.0), end, "{text}");
            assert!(end.is_none_or(|end| w.at(end, 20.0) == 0.0 && w.at(end - 0.01, 20.0) > 0.0), "{text}");
        }
    }

    #[test]
    fn the_method_s_own_keys_stay_in_the_table() {
        let mut table: toml::Table =
            "weight = 2\ntemperature = 4.0\nwarmup_epochs = 1.5\nlogit_std = true".parse().unwrap();
        let w = Weight::take(&mut table, 20).unwrap();
        assert_eq!(table.keys().collect::<Vec<_>>(), ["temperature"]);
        assert!(w.logit_std);
        // A stored table can be read again.
        assert_eq!(Weight::take(&mut w.table(), 20).unwrap(), w);
        assert!(!weight("weight = 0").is_on());
        let names: Vec<_> = Weight::KEYS.iter().map(|key| key.name.to_owned()).collect();
        let mut resolved = weight("decay = \"linear\"\ndecay_end = 9.0").table();
        assert!(names.iter().all(|name| resolved.remove(name).is_some()) && resolved.is_empty());
    }

    #[test]
    fn it_is_shown_in_words() {
        assert_eq!(weight("weight = 0.9").to_string(), "weight 0.9");
        let w = weight("warmup_epochs = 4\ndecay = \"cosine\"\ndecay_start = 10\nlogit_std = true");
        assert_eq!(
            w.to_string(),
            "weight 1, warm-up to epoch 4, cosine from epoch 10 to 0 of it at the end, standardised logits"
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_key() {
        for (text, key) in [
            ("weight = -1", "weight"),
            ("weight = \"much\"", "weight"),
            ("warmup_epochs = 21", "warmup_epochs"),
            ("warmup_epochs = -1", "warmup_epochs"),
            ("decay = \"cosin\"", "decay"),
            ("decay = \"linear\"\ndecay_start = 30", "decay_start"),
            ("decay = \"linear\"\ndecay_start = 10\ndecay_end = 10", "decay_end"),
            ("decay = \"step\"\ndecay_to = 2", "decay_to"),
            ("decay_start = 10", "decay_start"),
            ("decay_to = 0.5", "decay_to"),
            ("logit_std = 1", "logit_std"),
        ] {
            assert_eq!(refused(text).key, key, "{text}");
        }
        assert!(refused("decay_end = 10").message.contains("`decay` is \"none\""));
    }
}
