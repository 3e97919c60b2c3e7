//! Stateless cookies and session tokens.
//!
//! A cookie is the time and a SipHash-2-4-128 MAC (Aumasson and Bernstein, 2012) over the time, the client's
//! nonce and where it came from. The shard keeps nothing until a client has shown that it receives at the address
//! it names.

use std::hash::Hasher;
use std::net::IpAddr;

use siphasher::sip::SipHasher24;
use siphasher::sip128::{Hasher128, SipHasher24 as SipHasher24Wide};

use super::session::Address;

/// How long a cookie is taken, in nanoseconds.
const LIFE_NS: u64 = 20_000_000_000;

/// The shard's secret, drawn at start by whoever makes the shard.
#[derive(Clone, Copy)]
pub(crate) struct Secret([u8; 16]);

impl Secret {
    pub(crate) fn new(bytes: [u8; 16]) -> Secret {
        Secret(bytes)
    }

    pub(crate) fn cookie(&self, now_ns: u64, address: &Address, nonce: u64) -> [u8; 24] {
        let mut hasher = SipHasher24Wide::new_with_key(&self.0);
        hasher.write(b"set-up cookie");
        hasher.write_u64(now_ns);
        hasher.write_u64(nonce);
        hasher.write_u64(address.port as u64);
        hasher.write_u32(address.peer.0);
        match address.ip {
            IpAddr::V4(ip) => hasher.write(&ip.octets()),
            IpAddr::V6(ip) => hasher.write(&ip.octets()),
        }
        hasher.write_u16(address.udp_port);
        let mac = hasher.finish128();
        let mut cookie = [0; 24];
        cookie[..8].copy_from_slice(&now_ns.to_le_bytes());
        cookie[8..16].copy_from_slice(&mac.h1.to_le_bytes());
        cookie[16..].copy_from_slice(&mac.h2.to_le_bytes());
        cookie
    }

    /// When a cookie was made, if it was made here, for this address and nonce, and is not too old.
    pub(crate) fn made_ns(
        &self,
        now_ns: u64,
        address: &Address,
        nonce: u64,
        cookie: &[u8; 24],
    ) -> Option<u64> {
        let made_ns = u64::from_le_bytes(*cookie.first_chunk::<8>()?);
        let fresh = now_ns.checked_sub(made_ns).is_some_and(|age| age <= LIFE_NS);
        (fresh && self.cookie(made_ns, address, nonce) == *cookie).then_some(made_ns)
    }

    /// The token of the `n`th session: cannot be guessed without the secret.
    pub(crate) fn token(&self, n: u64) -> u64 {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        hasher.write(b"session token");
        hasher.write_u64(n);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use mstream_nic::Peer;

    use super::*;

    fn address(last: u8) -> Address {
        let ip = [10, 0, 0, last].into();
        Address { port: 0, peer: Peer(1), mac: [2; 6], ip, udp_port: 9, header_bytes: 42 }
    }

    #[test]
    fn a_cookie_fits_its_address_nonce_and_time_only() {
        let secret = Secret::new([7; 16]);
        let cookie = secret.cookie(1_000, &address(1), 5);
        assert_eq!(secret.made_ns(1_000, &address(1), 5, &cookie), Some(1_000));
        assert_eq!(secret.made_ns(1_000 + LIFE_NS, &address(1), 5, &cookie), Some(1_000));
        assert_eq!(secret.made_ns(1_001 + LIFE_NS, &address(1), 5, &cookie), None);
        assert_eq!(secret.made_ns(999, &address(1), 5, &cookie), None, "from the future");
        assert_eq!(secret.made_ns(1_000, &address(2), 5, &cookie), None);
        assert_eq!(secret.made_ns(1_000, &address(1), 6, &cookie), None);
        let mapped = std::net::Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped().into();
        let mapped = Address { ip: mapped, ..address(1) };
        assert_eq!(secret.made_ns(1_000, &mapped, 5, &cookie), None, "of the other family");
        assert_eq!(Secret::new([8; 16]).made_ns(1_000, &address(1), 5, &cookie), None);
        for bit in 0..24 * 8 {
            let mut forged = cookie;
            forged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(secret.made_ns(LIFE_NS, &address(1), 5, &forged), None, "bit {bit}");
        }
    }

    #[test]
    fn tokens_differ() {
        let secret = Secret::new([7; 16]);
        assert_ne!(secret.token(1), secret.token(2));
        assert_ne!(secret.token(1), Secret::new([8; 16]).token(1));
    }
}
