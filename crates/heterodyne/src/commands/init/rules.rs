//! Settings that follow from the number of training pictures. They are our rules of thumb: a starting point, not tuned.

/// The pictures of a folder, as far as the settings depend on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// Training pictures.
    pub train: usize,
    /// Training pictures of the smallest class.
    pub smallest: usize,
    /// Classes.
    pub classes: usize,
    /// Whether pictures are set apart to choose the best epoch on, besides those that are reported.
    pub chooses: bool,
}

/// How a network is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// From pretrained weights.
    Weights,
    /// From random weights, a convolutional network.
    Convolutions,
    /// From random weights, a network of tokens or of layer norms.
    Tokens,
}

/// A network's settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Passes over the pictures.
    pub epochs: usize,
    /// `sgd` or `adamw`.
    pub optim: &'static str,
    /// Learning rate.
    pub lr: f64,
    /// Weight decay.
    pub decay: f64,
    /// Epochs between evaluations.
    pub eval_every: usize,
}

/// Fewest training pictures, in all and in each class, of which some are held out.
const HOLD_FROM: (usize, usize) = (500, 10);
/// The batch for which the rates are given.
const BATCH: usize = 64;

impl Count {
    /// Pictures held out to choose the best epoch on: a tenth, at most 1,000; 0 if there are few, or if a split of its
    /// own is for that.
    #[must_use]
    pub fn holdout(&self) -> usize {
        let enough = self.train >= HOLD_FROM.0 && self.smallest >= HOLD_FROM.1;
        if enough && !self.chooses { (self.train / 10).min(1000) } else { 0 }
    }

    /// Pictures that are trained on.
    #[must_use]
    pub fn used(&self) -> usize {
        self.train - self.holdout()
    }

    /// Pictures per step: a power of two, at most 64, for at least 8 steps per epoch; at least 2, for batch norms.
    #[must_use]
    pub fn batch(&self) -> usize {
        let most = (self.used() / 8).clamp(2, BATCH);
        (1 << most.ilog2()).min(self.used())
    }

    /// The settings of a network.
    #[must_use]
    pub fn settings(&self, start: Start) -> Settings {
        // Pictures to see in all, and the fewest and most epochs.
        let (seen, fewest, most) = match start {
            Start::Weights => (50_000, 10, 50),
            Start::Convolutions | Start::Tokens => (300_000, 50, 300),
        };
        let epochs = (seen / self.used().max(1)).clamp(fewest, most);
        let share = self.batch() as f64 / BATCH as f64;
        // The rate of SGD grows with the batch, that of AdamW with its root.
        let (optim, lr, decay) = match start {
            Start::Weights => ("adamw", 1e-4 * share.sqrt(), 0.05),
            Start::Tokens => ("adamw", 5e-4 * share.sqrt(), 0.05),
            Start::Convolutions => ("sgd", 0.05 * share, 5e-4),
        };
        Settings { epochs, optim, lr: rounded(lr), decay, eval_every: epochs.div_ceil(50) }
    }
}

/// Two digits.
fn rounded(lr: f64) -> f64 {
    format!("{lr:.1e}").parse().unwrap_or(lr)
}
