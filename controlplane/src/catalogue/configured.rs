//! What the configuration says belongs into the catalogue.

use std::path::PathBuf;

use super::{ANONYMOUS, Command, Configured, Keeper, Rules, StreamKey};
use crate::budget::{Medium, medium};
use crate::config::Config;

/// Directory of the catalogue of `config`.
pub fn directory_for(config: &Config) -> PathBuf {
    match &config.node.catalogue_dir {
        Some(dir) => dir.clone(),
        // Files there cannot be written to by system calls.
        None if medium(&config.wal.dir) == Medium::Hugetlbfs => config.node.run_dir.clone(),
        None => config.wal.dir.clone(),
    }
}

/// Puts the shards and limits, and the `[[stream]]` and `[[publisher]]` entries of `config`, into the catalogue, and
/// never gives out the ids in `known_streams`, which the logs hold. How many of these no catalogue ever knew.
///
/// # Errors
/// What stands in the way, with file and line, all at once; nothing was changed then.
pub fn take_configured(
    keeper: &Keeper,
    config: &Config,
    configured: Configured,
    known_streams: &[u64],
    time_ns: u64,
) -> Result<usize, String> {
    let path = config.source.path.display();
    // A copy to try it on: a start that is refused changes nothing.
    let mut trial = keeper.read(Clone::clone);
    let mut commands = vec![Command::Configure(configured)];
    let mut problems = Vec::new();
    if let Err(refusal) = trial.apply(&commands[0]) {
        return Err(format!("{path}: catalogue: {refusal}"));
    }
    let mut try_it = |line: usize, command: Command| match trial.foresee(&command) {
        Some(Ok(_)) => {}
        _ => match trial.apply(&command) {
            Ok(_) => commands.push(command),
            Err(refusal) => problems.push(format!("{path}:{line}: catalogue: {refusal}")),
        },
    };
    let mut kept = Vec::new();
    for stream in &config.streams {
        let (line, shard) = (stream.line, stream.shard as u32);
        let known = keeper.read(|state| state.stream(&StreamKey::Id(stream.id)).cloned());
        match known.filter(|known| *known.name == *stream.name) {
            Some(known) if known.shard != shard => kept.push(format!(
                "{path}:{line}: catalogue: stream `{}` (id {}) is on shard {}, and streams do not move",
                known.name, known.id, known.shard
            )),
            Some(known)
                if (stream.cold && !known.rules.cold)
                    || (stream.newest_per_key && !known.rules.newest_per_key) =>
            {
                let key = if stream.newest_per_key { "newest_per_key" } else { "cold" };
                kept.push(format!(
                    "{path}:{line}: catalogue: `{key}`: stream `{}` (id {}) was created without it, and rules do \
                     not change",
                    known.name, known.id
                ));
            }
            Some(_) => {}
            None => {
                let rules = Rules {
                    cold: stream.cold,
                    newest_per_key: stream.newest_per_key,
                    ..Rules::default()
                };
                let (id, name) = (Some(stream.id), stream.name.as_str().into());
                let shard = Some(shard);
                try_it(line, Command::CreateStream { time_ns, id, name, shard, rules });
            }
        }
    }
    for publisher in &config.publishers {
        let (id, name) = (Some(publisher.id), publisher.name.as_str().into());
        try_it(publisher.line, Command::RegisterPublisher { time_ns, id, name });
    }
    problems.extend(kept);
    if !problems.is_empty() {
        return Err(problems.join("\n"));
    }
    let unknown = known_streams.iter().filter(|id| !trial.stream_id_used(**id));
    let (count, highest) = unknown.fold((0, 0), |(count, most), id| (count + 1, most.max(*id)));
    if (1..ANONYMOUS).contains(&highest) {
        commands.push(Command::ReserveStreamIds(highest));
    }
    keeper.change(&commands).map_err(|error| format!("catalogue: {error}"))?;
    Ok(count)
}
