//! The SHA-256 of messages in BinaryFILE framing: what the file of them would have.

use hmac_sha256::Hash;
use mstream_framing::MAX_U16_BYTES;

use crate::Failure;

/// Messages so far.
pub(super) struct Digest {
    hash: Hash,
    messages: u64,
    bytes: u64,
}

impl Digest {
    pub(super) fn new() -> Digest {
        Digest { hash: Hash::new(), messages: 0, bytes: 0 }
    }

    /// Adds a message.
    ///
    /// # Errors
    /// It is longer than the framing can say.
    pub(super) fn add(&mut self, message: &[u8]) -> Result<(), Failure> {
        let Ok(length) = u16::try_from(message.len()) else {
            let bytes = message.len();
            return Err(format!("a message of {bytes} bytes is over {MAX_U16_BYTES}"));
        };
        self.hash.update(length.to_be_bytes());
        self.hash.update(message);
        self.messages += 1;
        self.bytes += 2 + u64::from(length);
        Ok(())
    }

    /// Messages that were added.
    pub(super) fn messages(&self) -> u64 {
        self.messages
    }

    /// Their bytes, length fields included.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The sum in hexadecimal.
    pub(super) fn sha256(&self) -> String {
        self.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_that_of_the_framed_bytes() {
        let mut digest = Digest::new();
        digest.add(b"abc").expect("short");
        digest.add(b"").expect("short");
        let plain = Hash::hash(b"\0\x03abc\0\0");
        let hex: String = plain.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!((digest.sha256(), digest.messages(), digest.bytes()), (hex, 2, 7));
        assert!(digest.add(&vec![0; 65_536]).is_err());
    }
}
