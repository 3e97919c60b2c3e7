//! Samples of a node, one after the other, also over its restarts.

use std::time::{Duration, Instant};

use mstream_admin::v1::{ListBacklogRequest, Status, WatchStatusRequest};
use tonic::Streaming;

use super::sample::Sample;
use crate::admin::Admin;
use crate::failure::Failure;
use crate::settings::Settings;

/// Subscriptions that are looked at for slow ones.
const SUBSCRIPTIONS: u32 = 10_000;
/// How long a connection may take while a terminal waits for it.
const AGAIN: Duration = Duration::from_millis(500);

/// A frame's content.
pub(super) struct Frame {
    pub(super) status: Status,
    pub(super) sample: Sample,
}

/// The way that samples come.
pub(super) struct Feed {
    admin: Admin,
    answers: Streaming<Status>,
    interval: Duration,
    before: Option<Status>,
    heard: Instant,
}

impl Feed {
    /// Starts watching.
    pub(super) fn open(settings: &Settings, interval: Duration) -> Result<Feed, Failure> {
        let admin = Admin::connect(settings)?;
        let interval_ms = u32::try_from(interval.as_millis()).unwrap_or(u32::MAX).max(50);
        let answers = admin.call(admin.node().watch_status(WatchStatusRequest { interval_ms }))?;
        Ok(Feed { admin, answers, interval, before: None, heard: Instant::now() })
    }

    /// Waits for the first two answers: what happened between them.
    pub(super) fn first(&mut self, timeout: Duration) -> Result<Frame, Failure> {
        loop {
            let patience = self.interval + timeout;
            match self.next(patience)? {
                Some(frame) => return Ok(frame),
                None if self.heard.elapsed() >= patience => return Err(self.admin.silent()),
                None => {}
            }
        }
    }

    /// Waits up to `patience` for the next answer; `None` when none came, or the first one.
    pub(super) fn next(&mut self, patience: Duration) -> Result<Option<Frame>, Failure> {
        let Some(status) = self.admin.next(&mut self.answers, patience)? else { return Ok(None) };
        self.heard = Instant::now();
        let Some(before) = self.before.replace(status.clone()) else { return Ok(None) };
        let request = ListBacklogRequest { page_size: SUBSCRIPTIONS, ..Default::default() };
        let backlog = self.admin.call(self.admin.node().list_backlog(request))?.backlog;
        let sample = Sample::between(&before, &status, &backlog);
        Ok(Some(Frame { status, sample }))
    }

    /// How long nothing was heard beyond what is usual.
    pub(super) fn silent(&self) -> Option<Duration> {
        let silent = self.heard.elapsed();
        (silent > self.interval * 2 + Duration::from_secs(1)).then_some(silent)
    }

    /// As [`Feed::open`] for a terminal that must not stand still for long.
    pub(super) fn again(settings: &Settings, interval: Duration) -> Result<Feed, Failure> {
        let settings = Settings { timeout: settings.timeout.min(AGAIN), ..settings.clone() };
        Feed::open(&settings, interval)
    }
}
