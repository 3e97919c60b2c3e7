//! Control messages of memif 2.0: 128 bytes each, one per packet of the control socket.
//!
//! A message starts with its type (u16) and goes on with packed fields in the host's byte order; the
//! rest is zero. Names and reasons are NUL-terminated. Only little-endian hosts are supported.

const _: () = assert!(cfg!(target_endian = "little"), "memif messages use the host's byte order");

/// Bytes of every control message.
pub(super) const MESSAGE_BYTES: usize = 128;
/// Protocol version: major 2 in the high byte, minor 0 in the low one.
pub(super) const VERSION: u16 = 0x0200;
/// Interface mode: whole Ethernet frames.
pub(super) const MODE_ETHERNET: u8 = 0;

const NAME_BYTES: usize = 32;
const SECRET_BYTES: usize = 24;
const REASON_BYTES: usize = 96;
/// Set in an ADD_RING message for the ring that carries frames from the client to the server.
const RING_FLAG_TO_SERVER: u16 = 1;

const ACK: u16 = 1;
const HELLO: u16 = 2;
const INIT: u16 = 3;
const ADD_REGION: u16 = 4;
const ADD_RING: u16 = 5;
const CONNECT: u16 = 6;
const CONNECTED: u16 = 7;
const DISCONNECT: u16 = 8;

/// What a server offers when a client has connected its socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) name: String,
    pub(super) min_version: u16,
    pub(super) max_version: u16,
    /// The highest region index.
    pub(super) max_region: u16,
    /// The highest index of a ring from the server to the client.
    pub(super) max_ring_to_client: u16,
    /// The highest index of a ring from the client to the server.
    pub(super) max_ring_to_server: u16,
    pub(super) max_ring_log2: u8,
}

/// A client's answer to the hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Init {
    pub(super) version: u16,
    pub(super) id: u32,
    pub(super) mode: u8,
    pub(super) name: String,
}

/// One ring of the client, somewhere in a region that it added before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AddRing {
    pub(super) to_server: bool,
    pub(super) index: u16,
    pub(super) region: u16,
    pub(super) offset: u32,
    pub(super) ring_log2: u8,
}

/// A control message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    Ack,
    Hello(Hello),
    Init(Init),
    AddRegion { index: u16, size: u64 },
    AddRing(AddRing),
    Connect { name: String },
    Connected { name: String },
    Disconnect { code: u32, reason: String },
}

impl Message {
    /// The message as it is sent.
    pub(super) fn encode(&self) -> [u8; MESSAGE_BYTES] {
        let mut out = Writer { bytes: [0; MESSAGE_BYTES], at: 0 };
        match self {
            Message::Ack => out.u16(ACK),
            Message::Hello(hello) => {
                out.u16(HELLO);
                out.text(&hello.name, NAME_BYTES);
                out.u16(hello.min_version);
                out.u16(hello.max_version);
                out.u16(hello.max_region);
                out.u16(hello.max_ring_to_client);
                out.u16(hello.max_ring_to_server);
                out.put(&[hello.max_ring_log2]);
            }
            Message::Init(init) => {
                out.u16(INIT);
                out.u16(init.version);
                out.put(&init.id.to_le_bytes());
                out.put(&[init.mode]);
                out.put(&[0; SECRET_BYTES]);
                out.text(&init.name, NAME_BYTES);
            }
            Message::AddRegion { index, size } => {
                out.u16(ADD_REGION);
                out.u16(*index);
                out.put(&size.to_le_bytes());
            }
            Message::AddRing(ring) => {
                out.u16(ADD_RING);
                out.u16(if ring.to_server { RING_FLAG_TO_SERVER } else { 0 });
                out.u16(ring.index);
                out.u16(ring.region);
                out.put(&ring.offset.to_le_bytes());
                out.put(&[ring.ring_log2]);
                out.u16(0); // No private header in front of a frame.
            }
            Message::Connect { name } => {
                out.u16(CONNECT);
                out.text(name, NAME_BYTES);
            }
            Message::Connected { name } => {
                out.u16(CONNECTED);
                out.text(name, NAME_BYTES);
            }
            Message::Disconnect { code, reason } => {
                out.u16(DISCONNECT);
                out.put(&code.to_le_bytes());
                out.text(reason, REASON_BYTES);
            }
        }
        out.bytes
    }

    /// Reads a message; the error says what is wrong with it.
    pub(super) fn decode(bytes: &[u8]) -> Result<Message, &'static str> {
        let bytes: &[u8; MESSAGE_BYTES] =
            bytes.try_into().map_err(|_| "control message is not 128 bytes long")?;
        let mut from = Reader { bytes, at: 0 };
        Ok(match from.u16() {
            ACK => Message::Ack,
            HELLO => Message::Hello(Hello {
                name: from.text(NAME_BYTES),
                min_version: from.u16(),
                max_version: from.u16(),
                max_region: from.u16(),
                max_ring_to_client: from.u16(),
                max_ring_to_server: from.u16(),
                max_ring_log2: from.u8(),
            }),
            INIT => {
                let (version, id, mode) = (from.u16(), from.u32(), from.u8());
                from.at += SECRET_BYTES;
                Message::Init(Init { version, id, mode, name: from.text(NAME_BYTES) })
            }
            ADD_REGION => Message::AddRegion { index: from.u16(), size: from.u64() },
            ADD_RING => Message::AddRing(AddRing {
                to_server: from.u16() & RING_FLAG_TO_SERVER != 0,
                index: from.u16(),
                region: from.u16(),
                offset: from.u32(),
                ring_log2: from.u8(),
            }),
            CONNECT => Message::Connect { name: from.text(NAME_BYTES) },
            CONNECTED => Message::Connected { name: from.text(NAME_BYTES) },
            DISCONNECT => Message::Disconnect { code: from.u32(), reason: from.text(REASON_BYTES) },
            _ => return Err("unknown type of control message"),
        })
    }
}

struct Writer {
    bytes: [u8; MESSAGE_BYTES],
    at: usize,
}

impl Writer {
    fn put(&mut self, field: &[u8]) {
        self.bytes[self.at..self.at + field.len()].copy_from_slice(field);
        self.at += field.len();
    }

    fn u16(&mut self, value: u16) {
        self.put(&value.to_le_bytes());
    }

    /// A text field of `width` bytes: cut so that a NUL follows it.
    fn text(&mut self, text: &str, width: usize) {
        let kept = text.floor_char_boundary(width - 1);
        self.bytes[self.at..self.at + kept].copy_from_slice(&text.as_bytes()[..kept]);
        self.at += width;
    }
}

/// Reads fields of a message. No message is longer than its 128 bytes, so no read is out of range.
struct Reader<'a> {
    bytes: &'a [u8; MESSAGE_BYTES],
    at: usize,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut field = [0; N];
        field.copy_from_slice(&self.bytes[self.at..self.at + N]);
        self.at += N;
        field
    }

    fn u8(&mut self) -> u8 {
        self.take::<1>()[0]
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    /// A text field of `width` bytes up to its NUL; whatever is not printable ASCII becomes '?',
    /// because the text of a stranger ends up in logs.
    fn text(&mut self, width: usize) -> String {
        let field = &self.bytes[self.at..self.at + width];
        self.at += width;
        let shown = |byte: u8| if byte == b' ' || byte.is_ascii_graphic() { byte } else { b'?' };
        field.iter().take_while(|byte| **byte != 0).map(|byte| char::from(shown(*byte))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Message> {
        vec![
            Message::Ack,
            Message::Hello(Hello {
                name: "server".into(),
                min_version: VERSION,
                max_version: VERSION,
                max_region: 15,
                max_ring_to_client: 1,
                max_ring_to_server: 2,
                max_ring_log2: 14,
            }),
            Message::Init(Init { version: VERSION, id: 77, mode: 0, name: "client".into() }),
            Message::AddRegion { index: 1, size: 1 << 33 },
            Message::AddRing(AddRing {
                to_server: true,
                index: 0,
                region: 1,
                offset: 16_512,
                ring_log2: 10,
            }),
            Message::Connect { name: "port".into() },
            Message::Connected { name: "port".into() },
            Message::Disconnect { code: 3, reason: "no more room".into() },
        ]
    }

    #[test]
    fn every_message_reads_back_as_it_was_written() {
        for message in samples() {
            assert_eq!(Message::decode(&message.encode()), Ok(message));
        }
    }

    #[test]
    fn fields_are_packed_where_other_implementations_expect_them() {
        let init =
            Message::Init(Init { version: VERSION, id: 0x0102_0304, mode: 0, name: "n".into() });
        let bytes = init.encode();
        assert_eq!(&bytes[..9], &[3, 0, 0, 2, 4, 3, 2, 1, 0]);
        assert_eq!(&bytes[33..35], b"n\0");
        let region = Message::AddRegion { index: 5, size: 0x11 }.encode();
        assert_eq!(&region[..12], &[4, 0, 5, 0, 0x11, 0, 0, 0, 0, 0, 0, 0]);
        let ring = AddRing { to_server: true, index: 0, region: 2, offset: 0x80, ring_log2: 10 };
        assert_eq!(
            &Message::AddRing(ring).encode()[..15],
            &[5, 0, 1, 0, 0, 0, 2, 0, 0x80, 0, 0, 0, 10, 0, 0]
        );
    }

    #[test]
    fn wrong_sizes_and_types_are_refused_and_strange_text_is_tamed() {
        assert!(Message::decode(&[0; 127]).is_err());
        assert!(Message::decode(&[0; 129]).is_err());
        assert!(Message::decode(&[0; 128]).is_err());
        assert!(Message::decode(&[0xff; 128]).is_err());
        let mut bytes = [b'a'; 128];
        bytes[..4].copy_from_slice(&[6, 0, 0x1b, 0xff]);
        let Ok(Message::Connect { name }) = Message::decode(&bytes) else {
            panic!("not a connect")
        };
        assert_eq!(name.len(), NAME_BYTES);
        assert!(name.starts_with("??aa"));
    }

    #[test]
    fn a_long_name_is_cut_at_a_character_and_ends_with_nul() {
        let message = Message::Connect { name: "x".repeat(30) + "\u{e9}tude" };
        let bytes = message.encode();
        assert_eq!(&bytes[2..32], "x".repeat(30).as_bytes());
        assert_eq!(&bytes[32..34], &[0, 0]);
    }
}
