//! `heterodyne init`: looks at a folder of pictures and writes three recipes for it.
mod folder;
mod pretrained;
pub mod recipes;
pub mod rules;

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use heterodyne_models::ModelDef;

use self::recipes::{Folder, SCRATCH, STUDENT, STUDENT_RUN, Side, TEACHER};
use super::Outcome;
use crate::print::{quoted, say, tell};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of pictures: train/CLASS/*, and val/CLASS/* or test/CLASS/* or both
    folder: PathBuf,
    /// Model of the teacher (`heterodyne models` lists the names)
    #[arg(long, value_name = "MODEL")]
    teacher: String,
    /// Model of the student
    #[arg(long, value_name = "MODEL")]
    student: String,
    /// Pretrained weights of the teacher [default: those in the cache of the Hugging Face Hub]
    #[arg(long, value_name = "FILE")]
    teacher_weights: Option<PathBuf>,
    /// Pretrained weights of the student [default: those in the cache of the Hugging Face Hub]
    #[arg(long, value_name = "FILE")]
    student_weights: Option<PathBuf>,
    /// Folder for the recipes [default: the working folder]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Outcome> {
    let (teacher, student) = (heterodyne_models::find(&args.teacher)?, heterodyne_models::find(&args.student)?);
    let elsewhere = args.out.as_deref().filter(|out| !is_here(out));
    let out = elsewhere.unwrap_or(Path::new(""));
    let files = [TEACHER, STUDENT, SCRATCH].map(|name| out.join(name));
    refuse_existing(&files)?;
    let side = |def: &'static ModelDef, given: Option<&PathBuf>| -> Result<Side> {
        let weights = match given {
            Some(file) => Some(pretrained::given(def, file, |file| written(file, elsewhere.is_some()))?),
            None => pretrained::cached(def.name),
        };
        Ok(Side { def, weights, on_hub: pretrained::on_hub(def.name) })
    };
    let (teacher, student) =
        (side(teacher, args.teacher_weights.as_ref())?, side(student, args.student_weights.as_ref())?);

    // Without a trailing slash.
    let pictures: PathBuf = args.folder.components().collect();
    let Some(found) = folder::look(&pictures)? else { return Ok(Outcome::Interrupted) };
    let largest = teacher.def.input.img.max(student.def.input.img);
    found.show(&pictures, usize::try_from(largest)?);
    let folder = Folder { path: written(&pictures, elsewhere.is_some())?, count: found.count };
    let texts = recipes::texts(&folder, &teacher, &student);
    if !out.as_os_str().is_empty() {
        fs::create_dir_all(out).with_context(|| format!("{}: the folder cannot be created", out.display()))?;
    }
    for (file, text) in files.iter().zip(&texts) {
        let created = fs::File::create_new(file).and_then(|mut file| file.write_all(text.as_bytes()));
        created.with_context(|| format!("{}: cannot be written", file.display()))?;
    }
    if teacher.weights.is_none() {
        tell!(
            "note: the teacher starts from scratch, and from few pictures it learns little: give --teacher-weights, or \
             enable its line in {TEACHER}"
        );
    }
    say!("\nwritten  {}", files.each_ref().map(|file| file.display().to_string()).join(", "));
    [("teacher", &teacher), ("student", &student)].iter().for_each(|(role, side)| say!("{role}  {}", origin(side)));
    say!("\nThe settings are a starting point, not tuned; each has its reason in the recipe. Next:\n");
    let picture = found.example.as_deref().map_or_else(|| "PICTURE".to_owned(), quoted);
    commands(&files, &picture).iter().for_each(|line| say!("    {line}"));
    Ok(Outcome::Done)
}

/// The model and where its weights are from.
fn origin(side: &Side) -> String {
    let name = side.def.name;
    match (&side.weights, side.on_hub.is_some()) {
        (Some(weights), _) => format!("{name}, from {weights}"),
        (None, true) => format!("{name}, from scratch; the recipe has a line that gets pretrained weights"),
        (None, false) => format!("{name}, from scratch"),
    }
}

/// The commands from the recipes to a prediction.
fn commands(files: &[PathBuf; 3], picture: &str) -> Vec<String> {
    let [teacher, student, _] = files.each_ref().map(quoted);
    vec![
        format!("heterodyne check {teacher}"),
        format!("heterodyne train {teacher}"),
        format!("heterodyne distill {student}"),
        format!("heterodyne compare {student} --seeds 3"),
        "heterodyne report runs/*".to_owned(),
        format!("heterodyne predict {STUDENT_RUN} {picture}"),
    ]
}

/// Whether `folder` is the working folder.
fn is_here(folder: &Path) -> bool {
    let same = |a: PathBuf| std::env::current_dir().is_ok_and(|here| here.canonicalize().is_ok_and(|here| here == a));
    folder.canonicalize().is_ok_and(same)
}

/// `path` as recipes have it. Paths in a recipe are relative to the working folder: recipes in another folder get
/// absolute ones, so they work from here and from there.
fn written(path: &Path, elsewhere: bool) -> Result<String> {
    let path = if elsewhere {
        std::path::absolute(path).with_context(|| format!("{}: has no absolute path", path.display()))?
    } else {
        path.to_owned()
    };
    let text = path.to_str().with_context(|| format!("{}: a recipe needs a path in UTF-8", path.display()))?;
    Ok(text.to_owned())
}

fn refuse_existing(files: &[PathBuf]) -> Result<()> {
    let there: Vec<_> = files.iter().filter(|file| file.symlink_metadata().is_ok()).collect();
    let names: Vec<_> = there.iter().map(|file| file.display().to_string()).collect();
    match names.len() {
        0 => Ok(()),
        n => bail!(
            "{} {}: nothing was written\n  hint: move {} away, or choose another folder with --out",
            names.join(", "),
            if n == 1 { "exists" } else { "exist" },
            if n == 1 { "it" } else { "them" }
        ),
    }
}
