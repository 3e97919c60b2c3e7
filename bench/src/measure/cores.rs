//! Which core does what.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::Failure;

/// The cores of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cores {
    /// The appliance's, or the echo's.
    pub(crate) server: usize,
    /// The client's.
    pub(crate) client: usize,
    /// That of the appliance's control threads: the client's, if there are only two.
    pub(crate) control: usize,
}

impl Cores {
    /// Chooses among the cores that this process may use.
    pub(crate) fn choose(server: Option<usize>, client: Option<usize>) -> Result<Cores, Failure> {
        let allowed: Vec<usize> =
            core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
        Cores::among(&allowed, server, client)
    }

    fn among(
        allowed: &[usize],
        server: Option<usize>,
        client: Option<usize>,
    ) -> Result<Cores, Failure> {
        if let Some(wrong) = [server, client].iter().flatten().find(|core| !allowed.contains(core))
        {
            return Err(format!("there is no core {wrong}; this process may use {allowed:?}"));
        }
        // The last ones: the first is where interrupts go.
        let pick = |taken: &[Option<usize>]| {
            allowed.iter().rev().copied().find(|core| !taken.contains(&Some(*core)))
        };
        let first = *allowed.first().ok_or("the cores of this process are not known")?;
        let server = server.or_else(|| pick(&[client])).unwrap_or(first);
        let client = client.or_else(|| pick(&[Some(server)])).unwrap_or(first);
        let others = allowed.iter().copied().find(|core| ![server, client].contains(core));
        Ok(Cores { server, client, control: others.unwrap_or(client) })
    }

    /// Both ends poll on one core: figures mean nothing then.
    pub(crate) fn shared(self) -> bool {
        self.server == self.client
    }
}

/// The calling thread on one core, until this is dropped: processes that it starts then are free again.
#[derive(Debug)]
pub(crate) struct Pinned(CpuSet);

impl Pinned {
    /// Pins the calling thread.
    pub(crate) fn to(core: usize) -> Result<Pinned, Failure> {
        let this = Pid::from_raw(0);
        let failed = |error| format!("cannot pin to core {core}: {error}");
        let before = sched_getaffinity(this).map_err(failed)?;
        let mut only = CpuSet::new();
        only.set(core).and_then(|()| sched_setaffinity(this, &only)).map_err(failed)?;
        Ok(Pinned(before))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // It was so before, so it is allowed.
        let _ = sched_setaffinity(Pid::from_raw(0), &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_cores_measure_and_the_first_one_controls() {
        let chosen = |allowed: &[usize], server, client| {
            Cores::among(allowed, server, client).map(|c| (c.server, c.client, c.control))
        };
        assert_eq!(chosen(&[0, 1, 2, 3], None, None), Ok((3, 2, 0)));
        assert_eq!(chosen(&[0, 1], None, None), Ok((1, 0, 0)));
        assert_eq!(chosen(&[0, 1], Some(0), None), Ok((0, 1, 1)));
        assert_eq!(chosen(&[0, 1], None, Some(1)), Ok((0, 1, 1)));
        assert_eq!(chosen(&[5], None, None), Ok((5, 5, 5)));
        assert!(chosen(&[0, 1], Some(2), None).is_err());
        assert!(chosen(&[], None, None).is_err());
    }
}
