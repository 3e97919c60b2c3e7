//! Ctrl-C and SIGTERM.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::failure::Failure;

/// Set once somebody asked for the end.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Takes the signals over. With `twice`, a second one ends the program at once, with exit code 1.
    pub(crate) fn take(twice: bool) -> Result<Interrupt, Failure> {
        let asked = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            let mut taken = Ok(());
            if twice {
                let asked = Arc::clone(&asked);
                taken =
                    signal_hook::flag::register_conditional_shutdown(signal, 1, asked).map(drop);
            }
            taken
                .and_then(|()| signal_hook::flag::register(signal, Arc::clone(&asked)))
                .map_err(|error| format!("signals: {error}"))?;
        }
        Ok(Interrupt(asked))
    }

    /// True once somebody asked for the end.
    pub(crate) fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
