//! `heterodyne inspect --similarity RUN`: the similarity of the two networks' stages, and their energy per frequency.
use std::path::Path;

use anyhow::{Context, Result, bail};
use heterodyne_nn::file;
use heterodyne_run::{RunFolder, Similarity, recipe::schema::DeviceChoice, write_json_atomic};
use heterodyne_train::{Mode, Plan, analysis::similarity, plan};

use super::Outcome;
use crate::{
    print::{say, say_part},
    ui,
};

/// Flags of the comparison.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Compare the stages of a finished run's two networks on test images (linear CKA, energy per frequency); the
    /// result is saved in the run folder for `heterodyne report`
    #[arg(long, value_name = "RUN")]
    #[arg(conflicts_with_all = ["teacher", "img", "options", "precision", "batch", "num_classes"])]
    pub similarity: Option<std::path::PathBuf>,
    /// With --similarity: number of test images, evenly spaced [default: 2048]
    #[arg(long, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(4..))]
    images: Option<usize>,
    /// With --similarity: images per minibatch of CKA [default: 256]
    #[arg(long, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(4..=16384))]
    minibatch: Option<usize>,
    /// With --similarity: the student's weights, last, best or ema [default: last]
    #[arg(long, value_parser = ["last", "best", "ema"])]
    weights: Option<String>,
}

impl Args {
    /// Refuses options that require `--similarity` if it is not given.
    pub fn check(&self) -> Result<()> {
        let given = [
            ("--images", self.images.is_some()),
            ("--minibatch", self.minibatch.is_some()),
            ("--weights", self.weights.is_some()),
        ];
        match given.iter().find(|(_, given)| self.similarity.is_none() && *given) {
            Some((option, _)) => bail!("{option} requires --similarity RUN"),
            None => Ok(()),
        }
    }
}

/// Compares the networks, writes the result and prints it.
pub fn run(path: &Path, args: &Args, device: DeviceChoice, json: bool) -> Result<Outcome> {
    let folder = RunFolder::open(path)?;
    let layered = plan::stored(&folder.plan().display().to_string(), &folder.read_plan()?)?;
    if layered.recipe()?.teacher.is_none() {
        bail!("{}: the run has no teacher, so there is nothing to compare its features with", path.display());
    }
    let mut plan = Plan::resolve(&layered, Mode::Distill)?;
    // Only the networks and the test images are needed.
    plan.methods.clear();
    plan.recipe.data.audit = false;
    if device != DeviceChoice::Auto {
        plan.recipe.device = device;
    }
    plan.recipe.teacher.iter_mut().for_each(|teacher| teacher.cache = None);
    // The run's weights are loaded below.
    plan.recipe.student.weights = None;
    let session = ui::session(plan, None)?;
    let name = args.weights.as_deref().unwrap_or("last");
    let (images, minibatch) = (args.images.unwrap_or(2048), args.minibatch.unwrap_or(256));
    let weights = folder.weights(name);
    if !weights.is_file() {
        bail!("{} does not exist: the run has not been evaluated yet, or keeps no such weights", weights.display());
    }
    let (tensors, _) = file::read(&weights)?;
    session.learner.student.store.load(&tensors)?.strict(&weights.display().to_string())?;

    let bar = ui::bar("comparing", images.min(session.test.len()));
    let view = similarity::compare(&session, images, minibatch, name, |done| bar.set_position(done as u64))?;
    bar.finish_and_clear();
    write_json_atomic(&folder.similarity(), &view)?;
    if json {
        say!("{}", serde_json::to_string(&view).context("the result")?);
    } else {
        say_part!("{}", text(&view));
        say!("{}; plot it with `heterodyne report {}`", folder.similarity().display(), path.display());
    }
    Ok(Outcome::Done)
}

fn text(view: &Similarity) -> String {
    let Similarity { teacher, student, cka, images, batch, weights } = view;
    let mut out = format!("{images} test images in minibatches of {batch}, the student's {weights} weights\n");
    out += &format!("\nlinear CKA, {} (rows) against {} (columns)\n         ", teacher.model, student.model);
    (1..=student.stages.len()).for_each(|i| out += &format!("stage {i}  "));
    for (i, row) in (1..).zip(&cka.teacher_student) {
        out += &format!("\nstage {i}  ");
        row.iter().for_each(|v| out += &v.map_or_else(|| "      -  ".to_owned(), |v| format!("{v:7.3}  ")));
    }
    out += "\n\nshare of the energy at 0, 1, 2, .. cycles per image, %\n";
    for side in [teacher, student] {
        out += &format!("{}\n", side.model);
        for (i, stage) in (1..).zip(&side.stages) {
            let shares: Vec<String> =
                stage.energy.iter().take(8).map(|share| format!("{:6.2}", 100.0 * share)).collect();
            let more = if stage.energy.len() > 8 { " .." } else { "" };
            out += &format!("  stage {i}  {:>2}x{:<2}  {}{more}\n", stage.grid[0], stage.grid[1], shares.join(" "));
        }
    }
    out
}
