//! Values that have the right type and still make no sense.
use super::{
    schema::{NetworkTable, Optim, OptimName, Recipe, Schedule, ScheduleName, Train},
    tree::{Item, Table},
};

/// What is wrong with a key: `KEY message`.
pub struct Problem {
    pub key: &'static str,
    pub message: String,
    pub hint: Option<&'static str>,
}

/// More threads than any machine has processors; beyond it the system only refuses them one by one.
const MOST_THREADS: u64 = 1024;
/// Side of an image. A batch of larger ones does not fit into a machine's memory.
const MOST_PIXELS: u64 = 4096;
/// A weight of the loss. Float32 overflows soon behind it, in the square of a gradient.
const MOST_WEIGHT: f64 = 1e9;

type Checked = Result<(), Problem>;

/// The first problem of a recipe.
pub fn recipe(r: &Recipe) -> Option<Problem> {
    all(r).err()
}

fn all(r: &Recipe) -> Checked {
    let plain = !r.name.contains(['/', '\\']) && !r.name.contains(char::is_control) && r.name != "." && r.name != "..";
    ensure(plain, "name", || {
        format!("is {:?}; it names a folder, so it has no slashes and no control characters", r.name)
    })?;
    let positive = |key, value: Option<i64>| {
        ensure(value.is_none_or(|n| n >= 1), key, || format!("is {}; it must be at least 1", value.unwrap_or(0)))
    };
    at_most("threads", r.threads as u64, MOST_THREADS)?;
    at_most("data.workers", r.data.workers as u64, MOST_THREADS)?;
    let side = |key, value: Option<i64>| {
        positive(key, value)?;
        at_most(key, value.map_or(0, i64::unsigned_abs), MOST_PIXELS)
    };
    side("data.img", r.data.img)?;
    ensure(r.data.per_class != Some(0), "data.per_class", || "is 0; it must be at least 1".to_owned())?;
    ensure(r.student.package.is_none(), "student.package", || "makes no sense: a package cannot be trained".to_owned())
        .map_err(|p| Problem { hint: Some("name the student's `model`"), ..p })?;
    ensure(!r.student.model.is_empty(), "student.model", || "is missing".to_owned())
        .map_err(|p| Problem { hint: Some("add `model = ..` to [student]"), ..p })?;
    let chooses = [
        ("student.section", r.student.section.is_some()),
        ("student.prefix", r.student.prefix.is_some()),
        ("student.ignore", !r.student.ignore.is_empty()),
    ];
    for (key, given) in chooses {
        ensure(!given || r.student.weights.is_some(), key, || {
            "says which tensors are meant, and there is no `student.weights`".to_owned()
        })
        .map_err(|p| Problem { hint: Some("name the weights, or remove it"), ..p })?;
    }
    side("student.img", r.student.img)?;
    statistics("student.mean", "student.std", &r.student)?;
    ensure(r.student.cache.is_none(), "student.cache", || {
        "makes no sense: only a teacher says the same of an image every time".to_owned()
    })
    .map_err(|p| Problem { hint: Some("teacher.cache keeps what the teacher says"), ..p })?;
    if let Some(teacher) = &r.teacher {
        source(teacher)?;
        side("teacher.img", teacher.img)?;
        statistics("teacher.mean", "teacher.std", teacher)?;
        positive("teacher.cache.views", teacher.cache.as_ref().map(|c| i64::from(c.views)))?;
    }
    train(&r.train)?;
    optim(&r.optim)?;
    schedule(&r.schedule, r)?;
    range("loss.ce", r.loss.ce, |ce| ce >= 0.0, "at least 0")?;
    range("loss.ce", r.loss.ce, |ce| ce <= MOST_WEIGHT, "at most 1e9")
}

/// A teacher is a model or a package, and a package decides for itself what a model is told.
fn source(teacher: &NetworkTable) -> Checked {
    let hint = |hint| move |p| Problem { hint: Some(hint), ..p };
    if teacher.package.is_none() {
        return ensure(!teacher.model.is_empty(), "teacher.model", || "is missing".to_owned())
            .map_err(hint("add `model = ..` and `weights = ..` to [teacher], or `package = ..`"));
    }
    let given = [
        ("teacher.model", !teacher.model.is_empty()),
        ("teacher.weights", teacher.weights.is_some()),
        ("teacher.section", teacher.section.is_some()),
        ("teacher.prefix", teacher.prefix.is_some()),
        ("teacher.ignore", !teacher.ignore.is_empty()),
        ("teacher.adapt_head", teacher.adapt_head),
        ("teacher.options", !teacher.options.is_empty()),
        ("teacher.precision", teacher.precision.is_some()),
    ];
    given.into_iter().try_for_each(|(key, given)| {
        ensure(!given, key, || "contradicts `teacher.package`, a whole network that computes as it was made".to_owned())
            .map_err(hint("remove one of them"))
    })
}

fn statistics(mean: &'static str, std: &'static str, network: &NetworkTable) -> Checked {
    let plausible = |m: f64| (-1.0..=2.0).contains(&m);
    ensure(network.mean.is_none_or(|m| m.into_iter().all(plausible)), mean, || {
        "is not a mean of pixels in 0..1".to_owned()
    })
    .map_err(|p| Problem { hint: Some("means of pixels in 0..255 are to be divided by 255"), ..p })?;
    ensure(network.std.is_none_or(|s| s.into_iter().all(|s| s > 0.0)), std, || {
        "has a value that is not greater than 0".to_owned()
    })
}

fn train(t: &Train) -> Checked {
    at_least_1("train.epochs", u64::from(t.epochs))?;
    at_least_1("train.batch", t.batch as u64)?;
    at_least_1("train.eval_batch", t.eval_batch as u64)?;
    range("train.label_smoothing", t.label_smoothing, |s| (0.0..1.0).contains(&s), "at least 0 and less than 1")?;
    if let Some(clip) = t.clip_grad {
        range("train.clip_grad", clip, |c| c > 0.0, "greater than 0").map_err(|p| Problem {
            hint: Some("without train.clip_grad nothing is clipped; `--set train.clip_grad=` removes it"),
            ..p
        })?;
    }
    if let Some(ema) = t.ema_decay {
        range("train.ema_decay", ema, |d| d > 0.0 && d < 1.0, "greater than 0 and less than 1").map_err(|p| {
            Problem {
                hint: Some("without train.ema_decay there is no average; `--set train.ema_decay=` removes it"),
                ..p
            }
        })?;
    }
    at_least_1("train.log_every", t.log_every)?;
    at_least_1("train.eval_every", u64::from(t.eval_every))?;
    at_least_1("train.checkpoint_every", u64::from(t.checkpoint_every))
}

fn optim(o: &Optim) -> Checked {
    range("optim.lr", o.lr, |lr| lr > 0.0, "greater than 0")?;
    range("optim.momentum", o.momentum, |m| (0.0..1.0).contains(&m), "at least 0 and less than 1")?;
    if o.name == OptimName::Sgd && o.nesterov {
        ensure(o.momentum > 0.0, "optim.nesterov", || {
            "is true and optim.momentum is 0; Nesterov's variant needs momentum".to_owned()
        })?;
    }
    let decays = o.betas.into_iter().all(|b| (0.0..1.0).contains(&b));
    ensure(decays, "optim.betas", || format!("is {:?}; both must be at least 0 and less than 1", o.betas))?;
    range("optim.eps", o.eps, |eps| eps > 0.0, "greater than 0")?;
    range("optim.weight_decay", o.weight_decay, |d| d >= 0.0, "at least 0")
}

fn schedule(s: &Schedule, r: &Recipe) -> Checked {
    let (lr, epochs) = (r.optim.lr, f64::from(r.train.epochs));
    range("schedule.warmup_epochs", s.warmup_epochs, |w| w >= 0.0, "at least 0")?;
    ensure(s.warmup_epochs <= epochs, "schedule.warmup_epochs", || {
        format!("is {}, more than train.epochs, {epochs}", s.warmup_epochs)
    })?;
    range("schedule.warmup_lr", s.warmup_lr, |lr| lr >= 0.0, "at least 0")?;
    let rises = s.warmup_epochs == 0.0 || s.warmup_lr <= lr;
    ensure(rises, "schedule.warmup_lr", || format!("is {}, more than optim.lr, {lr}, to which it rises", s.warmup_lr))?;
    range("schedule.min_lr", s.min_lr, |lr| lr >= 0.0, "at least 0")?;
    ensure(s.min_lr <= lr, "schedule.min_lr", || {
        format!("is {}, more than optim.lr, {lr}, from which it falls", s.min_lr)
    })?;
    let times = s.milestones.iter().all(|m| *m > 0.0) && s.milestones.is_sorted_by(|a, b| a < b);
    ensure(times, "schedule.milestones", || {
        format!("is {:?}; epochs greater than 0, each later than the one before, are expected", s.milestones)
    })?;
    let steps = s.name != ScheduleName::Step || !s.milestones.is_empty();
    ensure(steps, "schedule.name", || "is `step` and there are no schedule.milestones to step at".to_owned())?;
    range("schedule.gamma", s.gamma, |g| g > 0.0 && g <= 1.0, "greater than 0 and at most 1")
}

fn at_least_1(key: &'static str, value: u64) -> Checked {
    ensure(value >= 1, key, || format!("is {value}; it must be at least 1"))
}

fn at_most(key: &'static str, value: u64, most: u64) -> Checked {
    ensure(value <= most, key, || format!("is {value}; it must be at most {most}"))
}

fn range(key: &'static str, value: f64, valid: impl Fn(f64) -> bool, words: &str) -> Checked {
    ensure(valid(value), key, || format!("is {value}; it must be {words}"))
}

fn ensure(valid: bool, key: &'static str, message: impl FnOnce() -> String) -> Checked {
    if valid { Ok(()) } else { Err(Problem { key, message: message(), hint: None }) }
}

/// The first number of the tree that is NaN or infinite, with its path. JSON could not store it.
pub fn not_finite(table: &Table) -> Option<(Vec<String>, f64)> {
    fn inside(value: &toml::Value) -> Option<f64> {
        match value {
            toml::Value::Float(number) => (!number.is_finite()).then_some(*number),
            toml::Value::Array(items) => items.iter().find_map(inside),
            toml::Value::Table(table) => table.values().find_map(inside),
            _ => None,
        }
    }
    table.iter().find_map(|(key, node)| match &node.item {
        Item::Leaf(value) => inside(value).map(|number| (vec![key.clone()], number)),
        Item::Table(inner) => not_finite(inner).map(|(mut path, number)| {
            path.insert(0, key.clone());
            (path, number)
        }),
    })
}
