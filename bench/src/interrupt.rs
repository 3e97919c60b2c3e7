//! Ctrl-C and SIGTERM: everything that was started is ended before the program ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::Failure;

/// Set once somebody asked for the end.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Takes the signals over. A second one ends the program at once.
    pub(crate) fn take() -> Result<Interrupt, Failure> {
        let asked = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&asked))
                .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&asked)))
                .map_err(|error| format!("signals: {error}"))?;
        }
        Ok(Interrupt(asked))
    }

    /// True once somebody asked for the end.
    #[inline]
    pub(crate) fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Fails once somebody asked for the end.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if self.asked() { Err("interrupted".into()) } else { Ok(()) }
    }
}
