//! `heterodyne demo`: distils a ViT into a CNN on the embedded digits with several methods and seeds.
use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use anyhow::{Context, Result, bail};
use heterodyne_report::Group;
use heterodyne_run::{folder::RunFolder, recipe::Layered, summary::Summary};
use heterodyne_train::{Mode, Plan, Session, fit};
use serde_json::json;

use super::{
    Outcome,
    compare::{
        comparison::Comparison,
        outcome,
        pool::{self, Jobs},
        rows::{Row, Selection, Source, Variation},
    },
};
use crate::{
    print::say,
    ui::{self, Progress},
};

const TEACHER: &str = include_str!("../../../../recipes/digits/teacher.toml");
const STUDENT: &str = include_str!("../../../../recipes/digits/student.toml");

/// The recipes of the methods; each has one method's table.
const METHODS: [&str; 4] = [
    include_str!("../../../../recipes/digits/kd.toml"),
    include_str!("../../../../recipes/digits/uhkd.toml"),
    include_str!("../../../../recipes/digits/lfcc.toml"),
    include_str!("../../../../recipes/digits/hcd.toml"),
];

/// A folder with this file was created by the demo and may be replaced.
const MARK: &str = ".heterodyne-demo";

/// Written last: marks a complete demo.
const SUMMARY: &str = "summary.json";

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder for runs, summary and report; an earlier demo there is replaced once the new one is complete
    #[arg(long, default_value = "target/demo")]
    out: PathBuf,
    /// Number of seeds per method
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// Override a key in all recipes, including the teacher's, for example --set train.epochs=20; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Outcome> {
    let start = Instant::now();
    let stop = ui::stop_flag()?;
    let aside = args.out.with_extension("previous");
    let work = &args.out;
    prepare(work, &aside)?;

    say!("A small ViT is trained on 1,297 scanned digits, then distilled into a small CNN that sees 50 of them.\n");
    let Some(teacher) = one(
        &Layered::from_str("recipes/digits/teacher.toml", TEACHER, &args.sets)?,
        Mode::Train,
        &work.join("teacher"),
        &stop,
    )?
    else {
        return Ok(Outcome::Interrupted);
    };
    say!("{:10} {}", "teacher", line(&teacher)?);

    let rows = rows(&work.join("teacher/weights/last.safetensors"), &args.sets)?;
    let comparison = Comparison { out: work.clone(), rows, seeds: (0..args.seeds).collect() };
    comparison.prepare()?;
    let runs = comparison.jobs();
    let failures = pool::run(&runs, Jobs::choose(None, &comparison.rows), &stop);
    if stop.load(Ordering::Relaxed) {
        return Ok(Outcome::Interrupted);
    }
    outcome::failed(&failures, runs.len())?;
    finish(work, &comparison.groups(), &teacher, start)?;
    remove(&aside)?;
    Ok(Outcome::Done)
}

/// The rows of the table: the student without a teacher, then with each method.
fn rows(teacher: &Path, sets: &[String]) -> Result<Vec<Row>> {
    let (mut selections, mut fixed) = (vec![Selection::Scratch], Vec::new());
    for recipe in METHODS {
        let methods = methods(recipe)?;
        fixed.push(format!("methods={methods}"));
        selections
            .push(Selection::Methods(methods.as_table().into_iter().flatten().map(|(name, _)| name.clone()).collect()));
    }
    fixed.extend(sets.iter().cloned());
    fixed.push("teacher.model=vit_nano".to_owned());
    fixed.push(format!("teacher.weights={}", toml_text(teacher)));
    let source = Source::Text("recipes/digits/student.toml", STUDENT);
    Variation { source, label: None, selections, fixed, points: vec![Vec::new()] }.rows(0)
}

/// The `[methods]` table of a recipe.
fn methods(recipe: &str) -> Result<toml::Value> {
    let mut recipe: toml::Table = recipe.parse()?;
    recipe.remove("methods").context("a recipe of the demo has no [methods]")
}

/// Creates an empty folder. A complete earlier demo is moved aside until the new one is complete; any other folder is
/// refused.
fn prepare(out: &Path, aside: &Path) -> Result<()> {
    for path in [out, aside] {
        if path.exists() && !path.join(MARK).is_file() {
            bail!("{} exists and was not made by the demo: choose another folder with --out", path.display());
        }
    }
    if out.join(SUMMARY).is_file() {
        remove(aside)?;
        std::fs::rename(out, aside).with_context(|| format!("moving the earlier demo to {}", aside.display()))?;
    }
    remove(out)?;
    std::fs::create_dir_all(out)
        .and_then(|()| std::fs::write(out.join(MARK), ""))
        .with_context(|| format!("creating {}", out.display()))
}

fn remove(path: &Path) -> Result<()> {
    if path.exists() {
        std::fs::remove_dir_all(path).with_context(|| format!("removing {}", path.display()))?;
    }
    Ok(())
}

/// Runs one recipe; `None` if it was interrupted.
fn one(layered: &Layered, mode: Mode, path: &Path, stop: &AtomicBool) -> Result<Option<Summary>> {
    if stop.load(Ordering::Relaxed) {
        return Ok(None);
    }
    let session = Session::build(Plan::resolve(layered, mode)?, stop)?;
    let folder = RunFolder::create(path)?;
    folder.write_plan(&serde_json::to_value(&session.plan.recipe)?)?;
    let mut progress = Progress::new(session.plan.recipe.train.epochs).quiet();
    let summary = fit(&session, &folder, false, stop, &mut progress)?;
    Ok((!stop.load(Ordering::Relaxed)).then_some(summary))
}

fn line(summary: &Summary) -> Result<String> {
    let last = summary.last.as_ref().context("the run has no evaluation")?;
    Ok(format!("top-1 {:6.2} % on {} test images, {:5.1} s of training", last.top1, last.images, summary.seconds))
}

fn toml_text(path: &Path) -> String {
    toml::Value::String(path.display().to_string()).to_string()
}

/// Writes report and summary and prints the table.
fn finish(work: &Path, groups: &[Group], teacher: &Summary, start: Instant) -> Result<()> {
    let loaded = groups.iter().map(Group::load).collect::<Result<Vec<_>, _>>()?;
    let mut methods = serde_json::Map::new();
    for group in &loaded {
        let by_seed = |value: &dyn Fn(&Summary) -> Option<f64>| -> serde_json::Map<String, serde_json::Value> {
            group.runs.iter().filter_map(|r| Some((r.summary.seed.to_string(), json!(value(&r.summary)?)))).collect()
        };
        methods.insert(
            group.name.clone(),
            json!({
                "accuracies": by_seed(&|s| s.last.as_ref().map(|e| e.top1)),
                "mean": group.mean(),
                "std": group.std(),
                "seconds": group.runs.iter().map(|r| r.summary.seconds).sum::<f64>(),
                "seconds_by_seed": by_seed(&|s| Some(s.seconds)),
            }),
        );
    }
    let summary = json!({
        "teacher": {
            "model": teacher.student,
            "accuracy": teacher.last.as_ref().map(|e| e.top1),
            "seconds": teacher.seconds,
        },
        "student": "resnet8",
        "methods": methods,
        "seconds": start.elapsed().as_secs_f64(),
    });
    let intro = format!(
        "A small vision transformer, trained on all 1,297 training digits ({:.2} % on the 500 test digits), teaches a \
         ResNet-8 that sees five labelled digits per class.",
        teacher.last.as_ref().map_or(f64::NAN, |e| e.top1)
    );
    heterodyne_report::write(&work.join("report.html"), "heterodyne demo", &intro, groups)?;
    heterodyne_run::folder::write_json_atomic(&work.join(SUMMARY), &summary)?;
    say!("\n{}", heterodyne_report::table(&loaded));
    say!("report   {}", work.join("report.html").display());
    say!("summary  {}", work.join(SUMMARY).display());
    say!("{:.0} s in total", start.elapsed().as_secs_f64());
    Ok(())
}
