//! The session table: a slot is an array index, a token proves that the datagram's sender owns it.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr};

use mstream_nic::Peer;
use siphasher::sip::SipHasher13;

use super::NONE;

/// Where a datagram came from, and where answers go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Address {
    /// Index of the shard's port.
    pub(crate) port: usize,
    /// The other end of that port.
    pub(crate) peer: Peer,
    pub(crate) mac: [u8; 6],
    pub(crate) ip: IpAddr,
    pub(crate) udp_port: u16,
    /// Bytes of headers in front of a datagram to it: they follow from its family and the port's VLAN.
    pub(crate) header_bytes: u8,
}

/// How far a session's life got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Free,
    /// Waits until the publisher's claim is durable.
    Opening,
    Open,
}

/// What the shard still has to tell a session: bits, each one frame at most, never a queue.
pub(crate) mod owes {
    pub(crate) const OPENED: u8 = 1;
    pub(crate) const CREDIT: u8 = 2;
    pub(crate) const BEAT: u8 = 4;
    pub(crate) const GONE: u8 = 8;
}

/// One client's tie to the shard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Session {
    pub(crate) state: State,
    pub(crate) owes: u8,
    /// True while the session stands in the list of those that are owed something.
    pub(crate) listed: bool,
    pub(crate) token: u64,
    pub(crate) address: Address,
    /// The client's nonce: with the address it makes a repeated open find its session.
    pub(crate) nonce: u64,
    /// Publisher id of the session.
    pub(crate) publisher: u64,
    pub(crate) incarnation: u64,
    /// Packet number of the last datagram sent.
    pub(crate) packet_number: u64,
    pub(crate) heard_ns: u64,
    /// Block bytes stored in this session.
    pub(crate) stored_bytes: u64,
    /// Limit of stored bytes that was told last.
    pub(crate) credit: u64,
    pub(crate) beat_ns: u64,
    pub(crate) beat_interval_ns: u64,
    /// Time in the beat that is to be answered.
    pub(crate) asked_time: u64,
    /// The publication handle that it is to be told it does not have.
    pub(crate) gone: u32,
    /// Heads of the lists of this session's publications and subscriptions, and of those that are owed a frame.
    pub(crate) publications: u32,
    pub(crate) subscriptions: u32,
    pub(crate) owed_publications: u32,
    pub(crate) owed_subscriptions: u32,
    /// How long the first two lists are.
    pub(crate) publication_count: u32,
    pub(crate) subscription_count: u32,
}

impl Session {
    const FREE: Session = Session {
        state: State::Free,
        owes: 0,
        listed: false,
        token: 0,
        address: Address {
            port: 0,
            peer: Peer::WIRE,
            mac: [0; 6],
            ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            udp_port: 0,
            header_bytes: 0,
        },
        nonce: 0,
        publisher: 0,
        incarnation: 0,
        packet_number: 0,
        heard_ns: 0,
        stored_bytes: 0,
        credit: 0,
        beat_ns: 0,
        beat_interval_ns: 0,
        asked_time: 0,
        gone: NONE,
        publications: NONE,
        subscriptions: NONE,
        owed_publications: NONE,
        owed_subscriptions: NONE,
        publication_count: 0,
        subscription_count: 0,
    };
}

/// Hashes with a secret key: clients choose what is hashed.
#[derive(Clone)]
struct Keyed([u8; 16]);

impl BuildHasher for Keyed {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_key(&self.0)
    }
}

/// All sessions of a shard, at a fixed number of slots.
pub(crate) struct Sessions {
    slots: Vec<Session>,
    free: Vec<u32>,
    by_open: HashMap<(Address, u64), u32, Keyed>,
}

impl Sessions {
    pub(crate) fn new(slots: usize, key: [u8; 16]) -> Sessions {
        let mut keyed = SipHasher13::new_with_key(&key);
        b"session table".hash(&mut keyed);
        let mut table_key = [0; 16];
        table_key[..8].copy_from_slice(&keyed.finish().to_le_bytes());
        table_key[8..].copy_from_slice(&key[..8]);
        Sessions {
            slots: vec![Session::FREE; slots],
            free: (0..slots as u32).rev().collect(),
            // Twice the room: tombstones are then cleaned up in place, never by growing.
            by_open: HashMap::with_capacity_and_hasher(2 * slots, Keyed(table_key)),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(crate) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// The session that a repeated open means.
    pub(crate) fn find(&self, address: &Address, nonce: u64) -> Option<u32> {
        self.by_open.get(&(*address, nonce)).copied()
    }

    /// Takes a free slot; `None` when there is none.
    pub(crate) fn open(
        &mut self,
        address: Address,
        nonce: u64,
        token: u64,
        now_ns: u64,
    ) -> Option<u32> {
        let slot = self.free.pop()?;
        let session = &mut self.slots[slot as usize];
        *session = Session {
            state: State::Opening,
            listed: session.listed,
            token,
            address,
            nonce,
            heard_ns: now_ns,
            ..Session::FREE
        };
        self.by_open.insert((address, nonce), slot);
        Some(slot)
    }

    /// Gives a slot back. The caller has freed what hangs on the session. `listed` outlives it: the
    /// list of owed sessions still names the slot.
    pub(crate) fn close(&mut self, slot: u32) {
        let session = &mut self.slots[slot as usize];
        if session.state == State::Free {
            return;
        }
        let listed = session.listed;
        let key = (session.address, session.nonce);
        *session = Session { listed, ..Session::FREE };
        self.by_open.remove(&key);
        self.free.push(slot);
    }

    #[inline]
    pub(crate) fn get(&self, slot: u32) -> Option<&Session> {
        self.slots.get(slot as usize)
    }
}

impl std::ops::Index<u32> for Sessions {
    type Output = Session;

    #[inline]
    fn index(&self, slot: u32) -> &Session {
        &self.slots[slot as usize]
    }
}

impl std::ops::IndexMut<u32> for Sessions {
    #[inline]
    fn index_mut(&mut self, slot: u32) -> &mut Session {
        &mut self.slots[slot as usize]
    }
}
