//! What a run will do, printed before it starts.
use heterodyne_nn::TapSpec;
use heterodyne_run::recipe::schema::{Optim, OptimName, Recipe, Schedule, ScheduleName};
use heterodyne_train::{Session, network::Network};

use crate::ui;

/// Data, networks, methods, optimizer, augmentation and length, one line each. `place` is the run folder, if there is
/// one.
pub fn heading(s: &Session, place: Option<&str>) -> String {
    let recipe = &s.plan.recipe;
    let mut lines = vec![data(s)];
    if let Some(t) = &s.learner.teacher {
        lines.push(format!("teacher  {}", network(t)));
        lines.extend(t.loaded.as_ref().map(|r| format!("         {}", ui::loaded(r))));
    }
    lines.push(format!("student  {}", network(&s.learner.student)));
    lines.extend(s.learner.student.loaded.as_ref().map(|r| format!("         {}", ui::loaded(r))));
    for m in &s.learner.loss.methods {
        lines.push(format!("method   {} ({})", m.name, m.weight));
    }
    if s.plan.baseline {
        lines.push("note     the recipe's teacher and methods are left out: its baseline from labels alone".to_owned());
    }
    let heads = s.learner.loss.heads.num_parameters();
    if heads > 0 {
        lines.push(format!("heads    {:.2} M parameters, for training only", heads as f64 / 1e6));
    }
    lines.push(format!("augment  {}", augment(recipe)));
    lines.push(format!("optim    {}", optimizer(&recipe.optim)));
    lines.push(format!("rate     {}", schedule(&recipe.schedule, recipe.optim.lr)));
    let place = place.map_or_else(String::new, |place| format!("{place} on "));
    lines.push(format!(
        "run      {place}{:?}, {} epochs of {} steps of {} images",
        s.learner.student.device(),
        recipe.train.epochs,
        s.train.batches_per_epoch(),
        recipe.train.batch.min(s.train_images)
    ));
    lines.join("\n") + "\n"
}

fn data(s: &Session) -> String {
    let dropped = s.train_images.saturating_sub(s.train.batches_per_epoch() * s.plan.recipe.train.batch);
    let left = match dropped {
        0 => String::new(),
        1 => "; 1 image does not fill a batch and is left out, another one in each epoch".to_owned(),
        n => format!("; {n} images do not fill a batch and are left out, others in each epoch"),
    };
    format!("data     {} ({} to train on), {} classes{left}", s.data, s.train_images, s.card.classes)
}

fn network(n: &Network) -> String {
    match n.store.num_parameters() {
        0 => format!("{} at {} px, a package with {}", n.name, n.view.img, offer(n.taps())),
        count => {
            format!("{} at {} px, {:.2} M parameters, {}", n.name, n.view.img, count as f64 / 1e6, n.precision.name())
        }
    }
}

/// The outputs of a network, in words.
fn offer(taps: &TapSpec) -> String {
    let embedding = if taps.embedding.is_some() { ", an embedding" } else { "" };
    match taps.stages.len() {
        0 => format!("logits{embedding}"),
        n => format!("logits{embedding} and {n} stages"),
    }
}

/// The augmentation as the recipe's keys.
fn augment(recipe: &Recipe) -> String {
    let keys = |table: &toml::Table| table.iter().map(|(key, value)| format!("{key} {value}")).collect::<Vec<_>>();
    let all = [keys(&recipe.data.augment), keys(&recipe.data.mix)].concat();
    if all.is_empty() { "none".to_owned() } else { all.join(", ").replace('"', "") }
}

fn optimizer(o: &Optim) -> String {
    let (name, own) = match o.name {
        OptimName::Sgd if o.nesterov => ("sgd", format!("momentum {} (Nesterov)", o.momentum)),
        OptimName::Sgd => ("sgd", format!("momentum {}", o.momentum)),
        OptimName::Adamw => ("adamw", format!("betas {} and {}", o.betas[0], o.betas[1])),
    };
    let decayed = if o.decay_all { "" } else { " (not of norms and biases)" };
    format!("{name}, {own}, weight decay {}{decayed}", o.weight_decay)
}

/// The peak of the learning rate and its course.
fn schedule(s: &Schedule, peak: f64) -> String {
    let rise = if s.warmup_epochs > 0.0 {
        let plural = if s.warmup_epochs == 1.0 { "" } else { "s" };
        format!(" after {} epoch{plural} of warm-up from {}", s.warmup_epochs, s.warmup_lr)
    } else {
        String::new()
    };
    let course = match s.name {
        ScheduleName::Cosine => format!("cosine to {}", s.min_lr),
        ScheduleName::Step => {
            let times: Vec<String> = s.milestones.iter().map(f64::to_string).collect();
            format!("times {} at epoch {}", s.gamma, times.join(", "))
        }
        ScheduleName::Constant => "constant".to_owned(),
    };
    format!("peak {peak}{rise}, {course}")
}
