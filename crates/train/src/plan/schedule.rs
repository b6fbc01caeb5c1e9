//! The learning rate as a pure function of the epoch.
use std::f64::consts::PI;

use heterodyne_run::recipe::schema::{CosineFrom, Schedule, ScheduleName};

/// The learning rate at the fractional `epoch` of a run of `epochs`, from the base rate `lr`: a linear warm-up, then
/// the schedule. The cosine ends at `min_lr`.
#[must_use]
pub fn rate(s: &Schedule, lr: f64, epoch: f64, epochs: f64) -> f64 {
    if epoch < s.warmup_epochs {
        return s.warmup_lr + (lr - s.warmup_lr) * epoch / s.warmup_epochs;
    }
    match s.name {
        ScheduleName::Constant => lr,
        ScheduleName::Step => lr * s.gamma.powi(s.milestones.iter().filter(|&&m| epoch >= m).count() as i32),
        ScheduleName::Cosine => {
            let from = if s.cosine_from == CosineFrom::Warmup { s.warmup_epochs } else { 0.0 };
            let done = ((epoch - from) / (epochs - from).max(f64::MIN_POSITIVE)).min(1.0);
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

    /// timm's CosineLRScheduler(t_initial=300, lr_min=1e-3, warmup_t=3, warmup_lr_init=1e-4, warmup_prefix=False) with
    /// base rate 0.05.
    #[test]
    fn a_cosine_from_the_start_is_timms() {
        let s = Schedule {
            warmup_epochs: 3.0,
            warmup_lr: 1e-4,
            min_lr: 1e-3,
            cosine_from: CosineFrom::Start,
            ..Schedule::default()
        };
        let timm = [
            (0.0, 0.0001),
            (1.0, 0.016_733_333_333_333_333),
            (2.0, 0.033_366_666_666_666_67),
            (3.0, 0.049_987_910_728_960_43),
            (10.0, 0.049_865_786_436_522_695),
            (150.0, 0.025_500_000_000_000_002),
            (299.0, 0.001_001_343_350_544_952_5),
        ];
        for (epoch, expected) in timm {
            close(rate(&s, 0.05, epoch, 300.0), expected);
        }
    }

    #[test]
    fn steps_multiply_at_their_epochs() {
        let s = Schedule { name: ScheduleName::Step, milestones: vec![150.0, 180.0], ..Schedule::default() };
        for (epoch, expected) in [(0.0, 0.05), (149.99, 0.05), (150.0, 0.005), (180.5, 0.0005)] {
            close(rate(&s, 0.05, epoch, 240.0), expected);
        }
    }
}
