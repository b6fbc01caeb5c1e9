//! What is in the folder: splits, classes, sizes; all that is broken; what will make training difficult.
use std::{
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use anyhow::{Result, bail};
use heterodyne_data::{Audit, Splits, Stored, census, faults};
use heterodyne_run::recipe::schema::Data;
use heterodyne_train::session::data;

use super::rules::Count;
use crate::{
    print::{quoted, say, tell},
    ui,
};

/// A folder whose pictures can all be read.
pub struct Found {
    splits: Splits,
    /// The longer sides of all pictures, ascending.
    sides: Vec<usize>,
    pub count: Count,
    /// A picture that a network trained on the folder has not learned from.
    pub example: Option<PathBuf>,
}

/// Looks at all pictures of `folder`; `None` if the user stops it.
///
/// # Errors
/// Something is broken: all of it is listed. Or a split is missing without which nothing can be trained or measured.
pub fn look(folder: &Path) -> Result<Option<Found>> {
    let splits = data::examine(&Data { path: Some(folder.to_owned()), ..Data::of("folder") })?;
    let stop = ui::stop_flag()?;
    let (mut broken, mut sides) = (splits.faults.clone(), Vec::new());
    for (_, split) in splits.all() {
        let bar = ui::bar("looking", split.len());
        let audit = Audit::of(&**split, 0, &stop);
        bar.finish_and_clear();
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let audit = audit?;
        broken.extend(audit.broken);
        sides.extend(audit.sides);
    }
    if !broken.is_empty() {
        let (n, list) = (broken.len(), faults::list(broken.iter()));
        let what = if n == 1 { "fault" } else { "faults" };
        bail!(
            "{}: {n} {what}; nothing was written{list}\n  hint: mend or remove them, then run the command again",
            folder.display()
        );
    }
    let train = splits.train()?;
    if splits.test.is_none() && splits.val.is_none() {
        bail!("{}", without_test(folder));
    }
    sides.sort_unstable();
    let sizes = census::sizes(&**train);
    let smallest = sizes.iter().copied().min().unwrap_or(0);
    let chooses = splits.chosen_on().is_some();
    let count = Count { train: train.len(), smallest, classes: sizes.len(), chooses };
    let example = match splits.reported()?.stored(0) {
        Stored::File(path, _) => Some(path.to_owned()),
        _ => None,
    };
    Ok(Some(Found { sides, count, example, splits }))
}

/// How to get test pictures.
fn without_test(folder: &Path) -> String {
    let root = quoted(folder);
    let command = format!(
        "cd {root} && for c in train/*/; do t=\"test/${{c#train/}}\"; mkdir -p \"$t\"; ls \"$c\" | awk 'NR % 5 == 0' | \
         while IFS= read -r f; do mv \"$c$f\" \"$t\"; done; done"
    );
    format!(
        "{}: has training pictures only: there is nothing to measure a network on\n  hint: set a fifth of each class \
         apart, for example with\n    {command}",
        folder.display()
    )
}

impl Found {
    /// Prints the splits, the classes' and pictures' sizes, and what to look at; `input` is the larger input of the
    /// networks in pixels.
    pub fn show(&self, folder: &Path, input: usize) {
        let Self { splits, sides, count, .. } = self;
        say!("{}: {} classes", folder.display(), count.classes);
        for (name, split) in splits.all() {
            let mut sizes = census::sizes(&**split);
            sizes.sort_unstable();
            let (least, median, most) = (sizes[0], sizes[sizes.len() / 2], sizes[sizes.len() - 1]);
            say!("  {name:6} {:7} pictures; per class {least} to {most}, median {median}", split.len());
        }
        let (least, median, most) = (sides[0], sides[sides.len() / 2], sides[sides.len() - 1]);
        say!("  longer side {least} to {most} px, median {median} px");
        splits.notices.iter().filter(|notice| notice.contains("left out")).for_each(|notice| say!("  {notice}"));
        self.notes(median, input).iter().for_each(|note| tell!("note: {note}"));
    }

    fn notes(&self, median: usize, input: usize) -> Vec<String> {
        let mut notes = census::notes(&self.splits);
        if self.count.holdout() == 0 && !self.count.chooses {
            let few = "too few training pictures to hold some out: the last epoch is the result of a run";
            notes.push(few.to_owned());
        }
        if 2 * median < input {
            notes.push(format!(
                "most pictures are far smaller than the networks' input of {input} px and will be enlarged: a smaller \
                 `img` in [student] saves time"
            ));
        }
        notes
    }
}
