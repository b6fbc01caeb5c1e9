//! `heterodyne data`: lists the datasets or describes one.
use std::{collections::HashMap, path::PathBuf, sync::atomic::Ordering};

use anyhow::{Result, bail};
use heterodyne_data::{census, faults};
use heterodyne_run::recipe::schema::Data;

use super::{Outcome, dataset};
use crate::{
    print::{say, tell},
    ui,
};

/// Largest number of classes that are printed.
const SHOWN: usize = 12;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Dataset to describe; without a name, all datasets are listed
    name: Option<String>,
    /// File or folder of the dataset
    path: Option<PathBuf>,
    /// Set a key of the recipe's [data], for example --set data.labels=val.csv; may be repeated
    #[arg(long = "set", value_name = "data.KEY=VALUE", requires = "name")]
    sets: Vec<String>,
    /// Do not check that every image can be decoded
    #[arg(long, requires = "name")]
    no_audit: bool,
    /// Print one JSON object
    #[arg(long, requires = "name")]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Outcome> {
    let Some(name) = &args.name else {
        heterodyne_data::all().iter().for_each(|def| say!("{:14} {}", def.name, def.summary));
        return Ok(Outcome::Done);
    };
    let data = dataset::set(Data { path: args.path.clone(), ..Data::of(name) }, &args.sets)?;
    let splits = heterodyne_train::session::data::examine(&data)?;
    if args.json {
        let all: serde_json::Map<_, _> = splits
            .all()
            .map(|(name, split)| {
                (name.to_owned(), serde_json::json!({"images": split.len(), "per_class": census::sizes(&**split)}))
            })
            .collect();
        let (classes, side) = (splits.classes(), splits.side);
        say!(
            "{}",
            serde_json::json!({
                "data": name,
                "classes": classes,
                "side": side,
                "mean": splits.mean,
                "std": splits.std,
                "splits": all,
                "notices": splits.notices,
            })
        );
    } else {
        let side = splits.side.map_or_else(|| "photographs".to_owned(), |side| format!("{side} x {side} pixels"));
        say!("{name}: {} classes, {side}", splits.classes().len());
        for (name, split) in splits.all() {
            say!("{name:6} {}", split.describe());
        }
        splits.notices.iter().for_each(|notice| say!("note   {notice}"));
        classes(&splits);
    }
    // All that is wrong is listed at once: what the folders show, and what decoding shows.
    let found = faults::refuse(&splits.faults);
    if args.no_audit {
        found?;
        return Ok(Outcome::Done);
    }
    let stop = ui::stop_flag()?;
    let decoded = heterodyne_data::audit(splits.all().map(|(_, split)| &**split), data.workers, &stop);
    if stop.load(Ordering::Relaxed) {
        return Ok(Outcome::Interrupted);
    }
    match (found, decoded) {
        (Err(found), Err(decoded)) => bail!("{found}\n{decoded}"),
        (found, decoded) => found.and(decoded)?,
    }
    if !args.json {
        splits.all().for_each(|(name, split)| tell!("{name}: all {} images can be read", split.len()));
    }
    Ok(Outcome::Done)
}

/// Prints the first classes with their sizes in every split.
fn classes(splits: &heterodyne_data::Splits) {
    let counts: HashMap<_, _> = splits.all().map(|(name, split)| (name, census::sizes(&**split))).collect();
    let names: Vec<&str> = splits.all().map(|(name, _)| name).collect();
    say!("class  {:32} {}", "", names.iter().map(|name| format!("{name:>8}")).collect::<String>());
    for (number, class) in splits.classes().iter().enumerate().take(SHOWN) {
        let row: String = names.iter().map(|name| format!("{:8}", counts[name][number])).collect();
        say!("{number:5}  {class:32} {row}");
    }
    let more = splits.classes().len().saturating_sub(SHOWN);
    if more > 0 {
        say!("       and {more} more");
    }
}
