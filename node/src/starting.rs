//! What the node does while it starts, for whoever reads its log or asks its admin address meanwhile.

use std::net::TcpListener;
use std::thread::JoinHandle;
use std::time::Instant;

use mstream_controlplane::admin::{Stage, serve_start};
use tokio::sync::watch;

use crate::{Failure, thread};

/// The node's start. Dropped, it stops answering.
pub(crate) struct Starting {
    stage: watch::Sender<Stage>,
    since: Instant,
    /// Answers on the admin address, if there is one. A thread of its own: a start keeps the control thread busy.
    answers: Option<JoinHandle<()>>,
}

impl Starting {
    /// Begins to answer on `listener` that the node starts.
    pub(crate) fn new(listener: Option<TcpListener>) -> Result<Starting, Failure> {
        let (stage, told) = watch::channel(Some("reading the configuration"));
        let answers = listener.map(|listener| {
            std::thread::Builder::new()
                .name("starting".to_string())
                .spawn(move || {
                    if let Err(reason) = answer(listener, told) {
                        // The node starts all the same.
                        tracing::error!("{reason}");
                    }
                })
                .map_err(|error| format!("cannot start a thread: {error}"))
        });
        Ok(Starting { stage, since: Instant::now(), answers: answers.transpose()? })
    }

    /// Tells what it does now.
    pub(crate) fn stage(&self, does: &'static str) {
        tracing::info!(
            "starting: {does} ({} ms after the begin)",
            self.since.elapsed().as_millis()
        );
        self.stage.send_replace(Some(does));
    }

    /// The node has started: somebody else answers from now on.
    pub(crate) fn end(self) {
        self.stage.send_replace(None);
        if let Some(answers) = self.answers {
            // It bounds the time that it takes by itself, and says what goes wrong.
            let _ = answers.join();
        }
    }
}

fn answer(listener: TcpListener, stage: watch::Receiver<Stage>) -> Result<(), Failure> {
    thread::block_signals()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("answering during the start: {error}"))?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)
            .map_err(|error| format!("answering during the start: {error}"))?;
        serve_start(listener, stage).await
    })
}
