//! Names of streams, from the catalogue's journal where it is there.

use std::path::Path;

use mstream_controlplane::catalogue::{Catalogue, StreamKey, read_only};

use super::logs::Log;
use crate::failure::{Failure, note};

/// What the catalogue says, if there is one.
pub(super) struct Names(Option<Catalogue>);

impl Names {
    /// Reads the catalogue in `dir`, or the one beside the logs. One that cannot be read costs the names alone, unless it
    /// was asked for.
    pub(super) fn read(dir: Option<&Path>, logs: &[Log]) -> Result<Names, Failure> {
        let beside = || logs.first().map(|log| log.lock_dir.clone()).unwrap_or_default();
        let path = dir.map_or_else(beside, Path::to_path_buf);
        match (read_only(&path), dir) {
            (Ok(None), Some(dir)) => {
                Err(Failure::Failed(format!("{}: there is no catalogue.log", dir.display())))
            }
            (Ok(catalogue), _) => Ok(Names(catalogue)),
            (Err(error), Some(_)) => Err(Failure::Failed(error.to_string())),
            (Err(error), None) => {
                note(&format!("streams have no names here: {error}"));
                Ok(Names(None))
            }
        }
    }

    /// The name of a stream; empty if it is not known.
    pub(super) fn of(&self, id: u64) -> &str {
        let stream = self.0.as_ref().and_then(|known| known.stream(&StreamKey::Id(id)));
        stream.map_or("", |stream| &*stream.name)
    }

    /// Words for a stream: its name, or its id where that is not known.
    pub(super) fn named(&self, id: u64) -> String {
        match self.of(id) {
            "" => format!("stream {id}"),
            name => format!("stream {name}"),
        }
    }

    /// The id of a stream.
    pub(super) fn id(&self, name: &str) -> Result<u64, Failure> {
        let Some(catalogue) = &self.0 else {
            return Err(Failure::Failed(format!(
                "{name}: no catalogue is beside the logs to know names by: say where with --catalogue, or the id with --id"
            )));
        };
        match catalogue.stream(&StreamKey::Name(name.into())) {
            Some(stream) => Ok(stream.id),
            None => {
                Err(Failure::Failed(format!("{name}: the catalogue has no stream of this name")))
            }
        }
    }
}
