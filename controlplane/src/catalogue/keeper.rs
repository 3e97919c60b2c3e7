//! The catalogue in concurrent use: many read, one changes.

use std::sync::{Mutex, PoisonError, RwLock};

use super::{Catalogue, Command, Event, Journal, JournalError, Refusal};

/// A catalogue with its journal. Commands are durable before they change the state.
pub struct Keeper {
    state: RwLock<Catalogue>,
    /// Held while commands are committed and applied, so that both happen in the same order.
    journal: Mutex<Box<dyn Journal>>,
    /// What failed last about the journal, and whether it still takes commands.
    trouble: Mutex<Option<JournalError>>,
}

impl Keeper {
    /// Joins what [`super::FileJournal::open`] returned.
    pub fn new(state: Catalogue, journal: impl Journal + 'static) -> Keeper {
        Keeper {
            state: RwLock::new(state),
            journal: Mutex::new(Box::new(journal)),
            trouble: Mutex::new(None),
        }
    }

    /// Commits and applies `commands`, all in one durable step; each succeeds or is refused by itself. Writes and
    /// syncs: not for a thread that must not wait.
    ///
    /// # Errors
    /// When the journal failed: none of them was applied.
    pub fn change(
        &self,
        commands: &[Command],
    ) -> Result<Vec<Result<Event, Refusal>>, JournalError> {
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        let foreseen = self.read(|state| {
            commands.iter().map(|command| state.foresee(command)).collect::<Option<Vec<_>>>()
        });
        if let Some(outcomes) = foreseen {
            // Nothing would change: nothing need be durable.
            return Ok(outcomes);
        }
        self.read(|state| journal.commit(state, commands)).inspect_err(|error| self.note(error))?;
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let outcomes = commands.iter().map(|command| state.apply(command)).collect();
        drop(state);
        if let Err(error) = self.read(|state| journal.tidy(state)) {
            // What was committed is safe; the next change tries again.
            tracing::error!("catalogue: {error}");
            self.note(&error);
        }
        Ok(outcomes)
    }

    fn note(&self, error: &JournalError) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.clone());
    }

    /// Looks at the catalogue. Keep it short: changes wait.
    pub fn read<T>(&self, look: impl FnOnce(&Catalogue) -> T) -> T {
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Why no more changes are taken, if that is so.
    pub fn closed(&self) -> Option<String> {
        match &*self.trouble.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(error @ JournalError::Closed { .. }) => Some(error.to_string()),
            _ => None,
        }
    }
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").finish_non_exhaustive()
    }
}
