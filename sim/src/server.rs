//! The appliance of a world: one shard in its poll loop, which can be killed or lose its power, and who makes its segments.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crossbeam_queue::ArrayQueue;
use mstream_dataplane::{
    Clock, Command, Limits, Now, PollLoop, PortAddress, PublisherEntry, Reply, Shard, ShardConfig,
    Status,
};
use mstream_nic::Port;
use mstream_nic::sim::{Endpoint, SimNet};
use mstream_pmem::cold::ColdStore;
use mstream_pmem::recovery::RecoveryError;
use mstream_pmem::region::Level;
use mstream_pmem::sealed::Sealed;
use mstream_pmem::sim::SimRegion;
use mstream_pmem::wal::Wal;

use crate::catalogue::Catalogue;
use crate::clock::VirtualClock;
use crate::cold::{self, Cold, Directory, End};
use crate::config::{MOST_PUBLISHERS, ServerConfig};
use crate::invariants::{Broken, Check, kept};
use crate::parts::Parts;
use crate::random::Random;

/// The shard's MAC address.
pub const SHARD_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(crate) const SHARD_IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub(crate) const SHARD_IP6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
pub(crate) const SHARD_UDP_PORT: u16 = 7500;

/// Commands and replies that may wait.
const COMMANDS: usize = 64;
/// Sealed segments that may wait to be read.
const LENT: usize = 2;

type Loop<X> = PollLoop<<X as Parts>::ShardPort, <X as Parts>::Region, VirtualClock>;
pub(crate) type TheShard<X> = Shard<<X as Parts>::Region, <<X as Parts>::ShardPort as Port>::Frame>;

/// A process that runs.
struct Running<X: Parts> {
    poll: Loop<X>,
    endpoint: Endpoint,
    commands: Arc<ArrayQueue<Command>>,
    /// A slot that was made waits among them.
    offers: bool,
    replies: Arc<ArrayQueue<Reply>>,
    sealed: Arc<ArrayQueue<Sealed>>,
    /// A segment that is being read until this time.
    reading: Option<(Sealed, u64)>,
    /// Those that were read, on their way to who copies them to cold segments.
    read: Arc<ArrayQueue<Sealed>>,
}

pub(crate) struct Server<X: Parts> {
    config: ServerConfig,
    running: Option<Running<X>>,
    /// What the medium holds while nothing runs.
    medium: Option<SimRegion>,
    /// Slots that exist.
    slots: u32,
    /// A slot that is being made is ready at this time.
    making_until: Option<u64>,
    /// No slot is made before this time.
    makes_from: u64,
    /// One was asked for since, and none was made yet.
    kept_waiting: bool,
    /// Counts boots of the machine.
    boots: u8,
    /// A start that did not get to serving may have found a loss.
    unsaid_loss: bool,
    /// Its cold segments.
    cold: Cold,
}

/// How a start ended.
pub(crate) enum Started {
    /// The process runs; the log may have lost something.
    Runs { loss: bool },
    /// The process is to die in the midst of it: what follows is for [`Server::stop`].
    Dies,
    /// So many wipes were lost in reboots that the log seems to be full: an operator has to make room.
    NoRoom,
}

impl<X: Parts> Server<X> {
    pub(crate) fn new(config: ServerConfig, cold: Cold) -> Server<X> {
        let (medium, slots) = (Some(config.region()), config.first_slots);
        let (running, making_until) = (None, None);
        let (makes_from, kept_waiting) = (0, false);
        let (boots, unsaid_loss) = (1, false);
        Server {
            config,
            running,
            medium,
            slots,
            making_until,
            makes_from,
            kept_waiting,
            boots,
            unsaid_loss,
            cold,
        }
    }

    pub(crate) fn config(&self) -> &ServerConfig {
        &self.config
    }

    /// Before the first start: in one world of four the shard's tables have little more room than for its clients, so that
    /// those that begin anew have to wait until what they left behind has ended.
    pub(crate) fn draw_limits(&mut self, clients: (usize, usize), random: &mut Random) {
        let mut with = |least: usize| least + random.below(2) as usize;
        let publications = with(clients.0);
        // An older life is told that it is fenced only where there would be room for it.
        let sessions = with(clients.0 + clients.1 + 1);
        let subscriptions = with(clients.1);
        if random.one_in(4) {
            let limits = self.config.limits;
            self.config.limits = Limits { sessions, publications, subscriptions, ..limits };
        }
    }

    pub(crate) fn shard(&self) -> Option<&TheShard<X>> {
        self.running.as_ref().map(|running| running.poll.shard())
    }

    /// The region in use.
    pub(crate) fn region(&self) -> Option<&SimRegion> {
        self.shard().map(|shard| X::inner(shard.wal().region()))
    }

    pub(crate) fn endpoint(&self) -> Option<Endpoint> {
        self.running.as_ref().map(|running| running.endpoint)
    }

    fn ports(&self) -> &[X::ShardPort] {
        self.running.as_ref().map_or(&[], |running| running.poll.ports())
    }

    /// Buffers of the port that are out.
    pub(crate) fn frames_out(&self) -> usize {
        self.ports().iter().map(Port::frames_out).sum()
    }

    /// Frames that the port handed over.
    pub(crate) fn frames_received(&self) -> u64 {
        self.ports().iter().map(|port| port.stats().rx_frames).sum()
    }

    /// Starts the process on what the medium holds. With `dies_in` it dies before the next but so many operations on its
    /// region, if the start takes as many.
    pub(crate) fn start(
        &mut self,
        parts: &mut X,
        net: &SimNet,
        clock: &VirtualClock,
        catalogue: &Catalogue,
        random: &mut Random,
        dies_in: Option<u32>,
    ) -> Result<Started, Broken> {
        let Some(region) = self.medium.take() else { return Ok(Started::NoRoom) };
        let mut clock = clock.clone();
        let now = clock.now();
        // A start takes a segment: one is made for it while there may be more.
        self.slots = self.next_slots();
        (self.making_until, self.kept_waiting) = (None, false);
        let names = [random.key(), random.key()];
        if let Some(operations) = dies_in {
            region.cut_in(operations);
        }
        let region = parts.region(region);
        let opened = self.config.open(region, self.slots, self.boots, names, true, now);
        let mut wal = match opened {
            Ok(wal) => wal,
            Err(RecoveryError::NoFreeSegment { .. }) if self.may_have_lost() => {
                return Ok(Started::NoRoom);
            }
            Err(error) => return Err(does_not_open(&error)),
        };
        if let Some(damage) = wal.fault().and_then(|fault| fault.damages.first()) {
            return Err(does_not_open(damage));
        }
        kept::loss(wal.possible_loss(), self.may_have_lost())?;
        self.unsaid_loss |= wal.possible_loss();
        let is_dead = |wal: &Wal<X::Region>| X::inner(wal.region()).is_cut();
        if is_dead(&wal) {
            return Ok(self.dies(&wal));
        }
        let port = net.attach(SHARD_MAC, self.config.frames);
        let endpoint = port.endpoint();
        net.limit_burst(endpoint, self.config.burst);
        let port = parts.shard_port(port);
        let entry =
            |id: u16| PublisherEntry { id: id.into(), name: format!("publisher-{id}").into() };
        let config = ShardConfig {
            ports: vec![PortAddress {
                mac: SHARD_MAC,
                ip: Some(SHARD_IP),
                ip6: Some(SHARD_IP6),
                vlan: self.config.vlan,
                capabilities: port.capabilities(),
            }],
            udp_port: SHARD_UDP_PORT,
            limits: self.config.limits,
            streams: catalogue.entries(),
            publishers: (1..=MOST_PUBLISHERS).map(entry).collect(),
            secret: random.key(),
        };
        let commands = Arc::new(ArrayQueue::new(COMMANDS));
        let to_shard = Arc::clone(&commands);
        let anew = self.may_have_lost();
        let cold::Opened { link, sealed: read, pages, ranges } =
            self.cold.open(&mut wal, is_dead, to_shard, catalogue, anew, now)?;
        let shard = Shard::new(config, wal, now).map_err(|error| does_not_open(&error))?;
        if is_dead(shard.wal()) {
            return Ok(self.dies(shard.wal()));
        }
        let region = X::inner(shard.wal().region());
        region.take_cut();
        net.silence(endpoint, region.off());
        let shard = shard.with_cold(pages, ranges);
        let replies = Arc::new(ArrayQueue::new(COMMANDS));
        let (taken, answered) = (Arc::clone(&commands), Arc::clone(&replies));
        let status = Arc::new(Status::new(1));
        let sealed = Arc::new(ArrayQueue::new(LENT));
        let poll = PollLoop::new(vec![port], shard, clock, taken, answered, status)
            .with_cold(link)
            .lending_to(Arc::clone(&sealed));
        let (offers, reading) = (false, None);
        let running = Running { poll, endpoint, commands, offers, replies, sealed, reading, read };
        self.running = Some(running);
        Ok(Started::Runs { loss: std::mem::take(&mut self.unsaid_loss) })
    }

    /// A start ends in its midst: what was there at that moment.
    fn dies(&mut self, wal: &Wal<X::Region>) -> Started {
        self.medium = X::inner(wal.region()).take_cut();
        Started::Dies
    }

    /// A reboot may have taken what was not synced.
    fn may_have_lost(&self) -> bool {
        self.config.level == Level::Process && self.boots > 1
    }

    fn next_slots(&self) -> u32 {
        (self.slots + 1).min(self.config.slots)
    }

    /// Whoever looks after cold segments has a turn; sometimes, unless `always`.
    pub(crate) fn turn_cold(&mut self, catalogue: &Catalogue, always: bool, now: Now) -> Check {
        self.cold.turn(catalogue, always, now)
    }

    /// A look at what cold segments hold beside the log.
    pub(crate) fn cold(&self) -> Option<Result<ColdStore<Directory>, Broken>> {
        self.shard().map(|shard| self.cold.look(shard.wal().log_id()))
    }

    pub(crate) fn poll(&mut self) -> u64 {
        let Some(running) = &mut self.running else { return 0 };
        let work = running.poll.poll();
        running.offers &= !running.commands.is_empty();
        work
    }

    /// Tells the shard something; false when it does not run or has too much to do.
    pub(crate) fn command(&mut self, command: Command) -> bool {
        self.running.as_ref().is_some_and(|running| running.commands.push(command).is_ok())
    }

    /// The shard's next answer.
    pub(crate) fn reply(&mut self) -> Option<Reply> {
        self.running.as_ref()?.replies.pop()
    }

    /// Reads the segments that the log lends, one at a time, and makes the footers that it asks for.
    pub(crate) fn read_sealed(&mut self, now_ns: u64) {
        let Some(running) = &mut self.running else { return };
        let Some((mut sealed, until)) = running.reading.take() else {
            let next = running.sealed.pop();
            running.reading = next.map(|sealed| (sealed, now_ns + self.config.make_ns));
            return;
        };
        if now_ns < until {
            running.reading = Some((sealed, until));
            return;
        }
        if sealed.wants_footer()
            && let Some(footer) = sealed.make_footer()
        {
            sealed.attach(Arc::new(footer));
        }
        if let Err(sealed) = running.read.push(sealed) {
            running.reading = Some((sealed, until));
        }
    }

    /// No slot is made before `until`; not later than before while the log waits for one, so that it gets one in the end.
    pub(crate) fn make_none_before(&mut self, until: u64) {
        if until < self.makes_from || !self.kept_waiting {
            self.makes_from = until;
        }
    }

    /// Makes slots that the log asks for, one at a time. True when one is asked for and none is made.
    pub(crate) fn make_slots(&mut self, now_ns: u64) -> bool {
        let Some(running) = &mut self.running else { return false };
        if let Some(until) = self.making_until {
            if now_ns >= until {
                self.making_until = None;
                running.offers |= running.commands.push(Command::SlotReady(self.slots)).is_ok();
                if running.offers {
                    (self.slots, self.kept_waiting) = (self.slots + 1, false);
                }
            }
            return false;
        }
        let wants = running.poll.shard().wal().slots_wanted() > 0
            && !running.offers
            && self.slots < self.config.slots;
        if wants && now_ns >= self.makes_from {
            self.making_until = Some(now_ns + self.config.make_ns);
        }
        let none = wants && now_ns < self.makes_from;
        self.kept_waiting |= none;
        none
    }

    /// The log as a start would find it now, if power were lost and `survives` said what is left.
    pub(crate) fn as_if_cut(
        &self,
        now: Now,
        survives: impl FnOnce(&SimRegion) -> SimRegion,
    ) -> Result<Option<Wal<SimRegion>>, Broken> {
        let Some(region) = self.region() else { return Ok(None) };
        let names = [[9; 16], [0x5e; 16]];
        let slots = self.next_slots();
        let opened = self.config.open(survives(region), slots, self.boots, names, false, now);
        opened.map(Some).map_err(|error| does_not_open(&error))
    }

    /// Ends the process, or a start in its midst; `medium` says what its region leaves behind. Where that is past its
    /// [`SimRegion::cut_in`] the process ended then.
    pub(crate) fn stop(
        &mut self,
        end: End,
        catalogue: &Catalogue,
        now: Now,
        medium: impl FnOnce(&SimRegion) -> SimRegion,
    ) {
        let running = self.running.take();
        let region = running.as_ref().map(|running| X::inner(running.poll.shard().wal().region()));
        let cut = region.map_or_else(|| self.medium.take(), SimRegion::take_cut);
        let Some(region) = cut.as_ref().or(region) else { return };
        self.cold.stop(catalogue, end, now);
        let boots = end != End::Killed;
        self.boots = self.boots.wrapping_add(u8::from(boots)).max(1);
        self.medium = Some(medium(region));
    }

    /// Ends the process for good; buffers that did not come back.
    pub(crate) fn shut_down(&mut self) -> usize {
        let Some(running) = self.running.take() else { return 0 };
        let (ports, shard) = running.poll.into_parts();
        drop(shard);
        ports.iter().map(Port::frames_out).sum()
    }
}

fn does_not_open(error: &dyn std::fmt::Display) -> Broken {
    Broken { invariant: kept::NAME, what: format!("the log does not open: {error}") }
}
