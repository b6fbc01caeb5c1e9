//! What single keys cannot tell: ranges of every table at once, and keys that contradict each other.
use heterodyne_settings::{Checked, KeyError, Settings};

use super::{
    schema::{NetworkTable, Optim, OptimName, Recipe, Schedule, ScheduleName},
    tree::{Item, Table},
};

/// A problem with a key: `KEY message`.
pub struct Problem {
    pub key: &'static str,
    pub message: String,
    pub hint: Option<&'static str>,
}

type Consistent = Result<(), Problem>;

/// What to do about a value out of range, for keys where that is not obvious.
const HINTS: [(&str, &str); 3] = [
    ("train.clip_grad", "`--set train.clip_grad=` removes it: nothing is clipped then"),
    ("train.ema_decay", "`--set train.ema_decay=` removes it: there is no average then"),
    (
        "train.checkpoint_minutes",
        "`--set train.checkpoint_minutes=` removes it: checkpoints are written by epochs then",
    ),
];

/// The first value out of its range, with its table, and what to do about it.
pub fn out_of_range(r: &Recipe) -> Option<(&'static str, KeyError, Option<&'static str>)> {
    let cache = r.teacher.as_ref().and_then(|teacher| teacher.cache.as_ref());
    let tables: [(&str, Checked); 9] = [
        ("", r.in_range()),
        ("data", r.data.in_range()),
        ("student", r.student.in_range()),
        ("teacher", r.teacher.as_ref().map_or(Ok(()), Settings::in_range)),
        ("teacher.cache", cache.map_or(Ok(()), Settings::in_range)),
        ("train", r.train.in_range()),
        ("optim", r.optim.in_range()),
        ("schedule", r.schedule.in_range()),
        ("loss", r.loss.in_range()),
    ];
    let (table, e) = tables.into_iter().find_map(|(table, checked)| Some((table, checked.err()?)))?;
    let key = format!("{table}.{}", e.key);
    let hint = HINTS.iter().find(|(known, _)| *known == key).map(|(_, hint)| *hint);
    Some((table, e, hint))
}

/// The first contradiction of a recipe whose values are all in their ranges.
pub fn contradiction(r: &Recipe) -> Option<Problem> {
    all(r).err()
}

fn all(r: &Recipe) -> Consistent {
    let plain = !r.name.contains(['/', '\\']) && !r.name.contains(char::is_control) && r.name != "." && r.name != "..";
    ensure(plain, "name", || {
        format!("is {:?}; it names a folder, so it must not have slashes or control characters", r.name)
    })?;
    ensure(!r.data.name.is_empty(), "data.name", || "is missing".to_owned())
        .map_err(hint("add `name = ..` to [data]; `heterodyne data` lists the datasets"))?;
    ensure(r.student.package.is_none(), "student.package", || {
        "is not possible: a package cannot be trained".to_owned()
    })
    .map_err(hint("name the student's `model`"))?;
    ensure(!r.student.model.is_empty(), "student.model", || "is missing".to_owned())
        .map_err(hint("add `model = ..` to [student]; `heterodyne models` lists the models"))?;
    let chooses = [
        ("student.section", r.student.section.is_some()),
        ("student.prefix", r.student.prefix.is_some()),
        ("student.ignore", !r.student.ignore.is_empty()),
    ];
    for (key, given) in chooses {
        ensure(!given || r.student.weights.is_some(), key, || {
            "chooses among the tensors of `student.weights`, which is not given".to_owned()
        })
        .map_err(hint("name the weights, or remove it"))?;
    }
    statistics("student.mean", "student.std", &r.student)?;
    ensure(r.student.cache.is_none(), "student.cache", || {
        "applies to the teacher only, because a student's outputs change during training".to_owned()
    })
    .map_err(hint("use teacher.cache"))?;
    if let Some(teacher) = &r.teacher {
        source(teacher)?;
        statistics("teacher.mean", "teacher.std", teacher)?;
    }
    optim(&r.optim)?;
    schedule(&r.schedule, r)
}

fn hint(hint: &'static str) -> impl Fn(Problem) -> Problem {
    move |p| Problem { hint: Some(hint), ..p }
}

/// A teacher is a model or a package, and a package decides for itself what a model is told.
fn source(teacher: &NetworkTable) -> Consistent {
    if teacher.package.is_none() {
        let named = !teacher.model.is_empty() || teacher.weights.is_some();
        return ensure(named, "teacher.weights", || "is missing".to_owned())
            .map_err(hint("add `weights = ..` to [teacher] (a file, or the folder of a run), or `package = ..`"));
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

fn statistics(mean: &'static str, std: &'static str, network: &NetworkTable) -> Consistent {
    let plausible = |m: f64| (-1.0..=2.0).contains(&m);
    ensure(network.mean.is_none_or(|m| m.into_iter().all(plausible)), mean, || {
        "is not a mean of pixels in 0..1".to_owned()
    })
    .map_err(hint("divide means of pixels in 0..255 by 255"))?;
    ensure(network.std.is_none_or(|s| s.into_iter().all(|s| s > 0.0)), std, || {
        "has a value that is not greater than 0".to_owned()
    })
}

fn optim(o: &Optim) -> Consistent {
    if o.name == OptimName::Sgd && o.nesterov {
        ensure(o.momentum > 0.0, "optim.nesterov", || {
            "is true and optim.momentum is 0; Nesterov's variant needs momentum".to_owned()
        })?;
    }
    let decays = o.betas.into_iter().all(|b| (0.0..1.0).contains(&b));
    ensure(decays, "optim.betas", || format!("is {:?}; both must be at least 0 and less than 1", o.betas))
}

fn schedule(s: &Schedule, r: &Recipe) -> Consistent {
    let (lr, epochs) = (r.optim.lr, f64::from(r.train.epochs));
    ensure(s.warmup_epochs <= epochs, "schedule.warmup_epochs", || {
        format!("is {}, more than train.epochs, {epochs}", s.warmup_epochs)
    })?;
    let rises = s.warmup_epochs == 0.0 || s.warmup_lr <= lr;
    ensure(rises, "schedule.warmup_lr", || format!("is {}, more than optim.lr, {lr}, to which it rises", s.warmup_lr))?;
    ensure(s.min_lr <= lr, "schedule.min_lr", || {
        format!("is {}, more than optim.lr, {lr}, from which it falls", s.min_lr)
    })?;
    let times = s.milestones.iter().all(|m| *m > 0.0) && s.milestones.is_sorted_by(|a, b| a < b);
    ensure(times, "schedule.milestones", || {
        format!("is {:?}; epochs greater than 0, each later than the one before, are expected", s.milestones)
    })?;
    let steps = s.name != ScheduleName::Step || !s.milestones.is_empty();
    ensure(steps, "schedule.name", || "is `step` and there are no schedule.milestones to step at".to_owned())
}

fn ensure(valid: bool, key: &'static str, message: impl FnOnce() -> String) -> Consistent {
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
