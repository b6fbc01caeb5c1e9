//! The learning rate as a pure function of time.
use std::f64::consts::PI;

use heterodyne_run::recipe::schema::{Schedule, ScheduleName};

/// The rate at `epoch` (with its fraction) of a run of `epochs`, from the base rate `lr`: a linear rise over the warm-up,
/// then the schedule. The cosine covers what is left after the warm-up and ends at `min_lr`.
#[must_use]
pub fn rate(s: &Schedule, lr: f64, epoch: f64, epochs: f64) -> f64 {
    if epoch < s.warmup_epochs {
        return s.warmup_lr + (lr - s.warmup_lr) * epoch / s.warmup_epochs;
    }
    match s.name {
        ScheduleName::Constant => lr,
        ScheduleName::Step => lr * s.gamma.powi(s.milestones.iter().filter(|&&m| epoch >= m).count() as i32),
        ScheduleName::Cosine => {
            let done = ((epoch - s.warmup_epochs) / (epochs - s.warmup_epochs).max(f64::MIN_POSITIVE)).min(1.0);
            s.min_lr + (lr - s.min_lr) * (1.0 + (PI * done).cos()) / 2.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-12, "{a} is not {b}");
    }

    #[test]
    fn cosine_rises_from_the_warm_up_and_ends_at_the_minimum() {
        let s = Schedule { warmup_epochs: 2.0, warmup_lr: 0.01, min_lr: 0.001, ..Schedule::default() };
        close(rate(&s, 0.1, 0.0, 10.0), 0.01);
        close(rate(&s, 0.1, 1.0, 10.0), 0.055);
        close(rate(&s, 0.1, 2.0, 10.0), 0.1);
        close(rate(&s, 0.1, 6.0, 10.0), (0.1 + 0.001) / 2.0);
        close(rate(&s, 0.1, 10.0, 10.0), 0.001);
    }

    #[test]
    fn steps_multiply_at_their_epochs() {
        let s = Schedule { name: ScheduleName::Step, milestones: vec![150.0, 180.0], ..Schedule::default() };
        for (epoch, expected) in [(0.0, 0.05), (149.99, 0.05), (150.0, 0.005), (180.5, 0.0005)] {
            close(rate(&s, 0.05, epoch, 240.0), expected);
        }
    }
}
