//! Downloads the files of a repository into the cache.
mod remote;
mod store;
mod transfer;
mod watch;

use self::remote::Remote;
use crate::cache::Repository;
use crate::{CONFIG, Error, Files, Name, PROCESSOR, Progress, Settings, WEIGHTS, shards};

/// The revision's files; those that the cache lacks are downloaded.
pub fn fetch(
    settings: &Settings,
    cache: &Repository,
    name: &Name,
    mut progress: impl FnMut(Progress<'_>),
) -> Result<Files, Error> {
    let remote = Remote::new(settings, name);
    let listing = remote.list()?;
    let Some(weights) = WEIGHTS.into_iter().find(|file| listing.has(file)) else {
        return Err(Error::NoWeights { name: name.clone(), commit: listing.commit });
    };
    let mut get = |file: &str| transfer::obtain(&remote, cache, &listing.commit, file, &mut progress);
    let mut described = |file| if listing.has(file) { get(file).map(Some) } else { Ok(None) };
    let (config, processor) = (described(CONFIG)?, described(PROCESSOR)?);
    let path = get(weights)?;
    for shard in shards(name, &path, weights)? {
        if !listing.has(&shard) {
            return Err(Error::NoShard { name: name.clone(), index: weights, shard });
        }
        get(&shard)?;
    }
    cache.refer(name.revision(), &listing.commit)?;
    Ok(Files { config, processor, weights: path, commit: listing.commit })
}
