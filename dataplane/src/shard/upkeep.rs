//! What happens because time passes: beats, expired sessions, recycling of segments.

use mstream_nic::Frame;
use mstream_pmem::region::Region;

use super::session::State;
use super::subscription::{Pace, owes as subscription_owes};
use super::{BEAT_MAX_NS, BEAT_MIN_NS, HOUSEKEEPING_RECORDS, Now, Shard};
use crate::planted::{Bug, planted};

impl<R: Region, F: Frame> Shard<R, F> {
    /// Does what is due, within a bound.
    #[inline]
    pub(super) fn upkeep(&mut self, now: Now) {
        let appended =
            self.wal.appended() - std::mem::replace(&mut self.upkept, self.wal.appended());
        let (least, most) = HOUSEKEEPING_RECORDS.into_inner();
        self.wal.set_moment(now.mono_ns);
        self.wal.housekeep((2 * appended).clamp(least, most) as usize);
        let ticked = self.timers.ticked(now.mono_ns);
        self.tend_streams(now, ticked);
        if ticked {
            self.expire(now);
        }
    }

    fn expire(&mut self, now: Now) {
        let mut fired = std::mem::take(&mut self.fired);
        self.timers.expire(now.mono_ns, &mut fired);
        for slot in fired.drain(..) {
            self.session_timer(now, slot);
        }
        self.fired = fired;
    }

    fn session_timer(&mut self, now: Now, slot: u32) {
        let timeout_ns = u64::from(self.limits.session_timeout_ms) * 1_000_000;
        let session = &mut self.sessions[slot];
        if session.state == State::Free {
            return;
        }
        let expires = session.heard_ns + timeout_ns;
        if now.mono_ns >= expires && !planted(Bug::SessionsStay) {
            self.counters.sessions_expired += 1;
            self.close_session(slot);
            return;
        }
        if now.mono_ns >= session.beat_ns {
            session.beat_interval_ns =
                (session.beat_interval_ns * 2).clamp(BEAT_MIN_NS, BEAT_MAX_NS);
            session.beat_ns = now.mono_ns + session.beat_interval_ns;
            let mut index = session.subscriptions;
            while let Some(subscription) = self.subscriptions.at(index) {
                let next = subscription.next_in_session;
                // Why one stopped is said again: the answer may have been lost.
                let (what, forgotten) = match subscription.pace {
                    // Its answer comes first.
                    Pace::Asking => {
                        index = next;
                        continue;
                    }
                    Pace::Stopped => (subscription_owes::SUBSCRIBED, Bug::StopNotRepeated),
                    _ => (subscription_owes::BEAT, Bug::BeatsForgotten),
                };
                if !planted(forgotten) {
                    self.owe_subscription(index, what);
                }
                index = next;
            }
        }
        let due = self.sessions[slot].beat_ns.min(expires);
        self.timers.arm(slot, due);
    }
}
