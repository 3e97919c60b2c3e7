//! Layouts of the messages, from the public "Nasdaq TotalView-ITCH 5.0" specification.
//!
//! All integers are big-endian and unaligned, times are nanoseconds since midnight in 6 bytes, prices
//! have 4 decimals, text is ASCII filled up with spaces on the right. A message starts with its type.

use std::ops::Deref;

use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of the longest message that has a layout here.
pub const MAX_MESSAGE_BYTES: usize = 44;

/// Nanoseconds since midnight, in 6 bytes.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(transparent)]
pub struct Timestamp([u8; 6]);

impl Timestamp {
    /// The low 48 bits of `nanos`: enough for three days.
    pub fn from_nanos(nanos: u64) -> Timestamp {
        let [_, _, bytes @ ..] = nanos.to_be_bytes();
        Timestamp(bytes)
    }

    /// Nanoseconds since midnight.
    pub fn nanos(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }
}

/// What every message starts with.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Head {
    /// Message type, an ASCII letter.
    pub kind: u8,
    /// Number of the stock for the day; 0 in messages about no stock.
    pub locate: U16,
    /// Internal to Nasdaq.
    pub tracking: U16,
    /// When.
    pub time: Timestamp,
}

macro_rules! messages {
    ($($(#[$doc:meta])* $name:ident = $kind:literal, $size:literal {
        $($(#[$fdoc:meta])* $field:ident: $type:ty,)*
    })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            #[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
            #[repr(C)]
            pub struct $name {
                /// Type, stock, time.
                pub head: Head,
                $($(#[$fdoc])* pub $field: $type,)*
            }

            impl $name {
                /// The message type.
                pub const KIND: u8 = $kind;

                /// The head of a message of this type.
                pub fn head(locate: u16, nanos: u64) -> Head {
                    Head {
                        kind: $kind,
                        locate: locate.into(),
                        tracking: 0.into(),
                        time: Timestamp::from_nanos(nanos),
                    }
                }
            }

            impl From<$name> for Encoded {
                fn from(message: $name) -> Encoded {
                    Encoded::of(message.as_bytes())
                }
            }

            const _: () = assert!(size_of::<$name>() == $size && $size <= MAX_MESSAGE_BYTES);
        )*

        /// A message whose type and length were checked.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Message<'a> {
            $($(#[$doc])* $name(&'a $name),)*
            /// A message of a type that only its length is known of here.
            Other(&'a Head),
        }

        impl<'a> Message<'a> {
            /// Checks type and length.
            ///
            /// # Errors
            /// What is wrong with them.
            #[inline]
            pub fn parse(bytes: &'a [u8]) -> Result<Message<'a>, ShapeError> {
                let kind = *bytes.first().ok_or(ShapeError::Empty)?;
                let wrong_length = || ShapeError::Length { kind, length: bytes.len() };
                match kind {
                    $($kind => $name::ref_from_bytes(bytes)
                        .map(Message::$name)
                        .map_err(|_| wrong_length()),)*
                    _ => {
                        let expected = other_length(kind).ok_or(ShapeError::Kind(kind))?;
                        match Head::ref_from_prefix(bytes) {
                            Ok((head, _)) if bytes.len() == expected => Ok(Message::Other(head)),
                            _ => Err(wrong_length()),
                        }
                    }
                }
            }

            /// Type, stock, time.
            pub fn head(&self) -> &'a Head {
                match self {
                    $(Message::$name(message) => &message.head,)*
                    Message::Other(head) => head,
                }
            }
        }
    };
}

messages! {
    /// Start or end of a phase of the day.
    SystemEvent = b'S', 12 {
        /// `O` `S` `Q` start of messages, system hours, market hours; `M` `E` `C` their ends.
        event: u8,
    }
    /// A stock of the day.
    StockDirectory = b'R', 39 {
        /// Symbol.
        stock: [u8; 8],
        /// Listing market.
        market_category: u8,
        /// `N` normal, others for trouble.
        financial_status: u8,
        /// Shares.
        round_lot: U32,
        /// `Y` or `N`.
        round_lots_only: u8,
        /// `C` common stock, and so on.
        classification: u8,
        /// Detail of the classification.
        sub_type: [u8; 2],
        /// `P` production, `T` test.
        authenticity: u8,
        /// `Y`, `N` or space.
        short_sale_threshold: u8,
        /// `Y`, `N` or space.
        ipo: u8,
        /// `1`, `2` or space.
        luld_tier: u8,
        /// `Y`, `N` or space.
        etp: u8,
        /// 0 when not an ETP.
        etp_leverage: U32,
        /// `Y` or `N`.
        inverse: u8,
    }
    /// A stock starts or stops trading.
    TradingAction = b'H', 25 {
        /// Symbol.
        stock: [u8; 8],
        /// `T` trading, `H` halted, `P` paused, `Q` quotation only.
        state: u8,
        /// Space.
        reserved: u8,
        /// Why.
        reason: [u8; 4],
    }
    /// A new order.
    AddOrder = b'A', 36 {
        /// The order's number for the day.
        reference: U64,
        /// `B` or `S`.
        side: u8,
        /// Shares shown.
        shares: U32,
        /// Symbol.
        stock: [u8; 8],
        /// Limit, in 1/10,000 dollar.
        price: U32,
    }
    /// A new order whose owner is named.
    AddOrderAttributed = b'F', 40 {
        /// The order's number for the day.
        reference: U64,
        /// `B` or `S`.
        side: u8,
        /// Shares shown.
        shares: U32,
        /// Symbol.
        stock: [u8; 8],
        /// Limit, in 1/10,000 dollar.
        price: U32,
        /// Market participant.
        attribution: [u8; 4],
    }
    /// Shares of an order were executed at its limit.
    OrderExecuted = b'E', 31 {
        /// The order.
        reference: U64,
        /// Shares executed.
        shares: U32,
        /// Number of the match for the day.
        match_number: U64,
    }
    /// Shares of an order were executed at another price.
    OrderExecutedPrice = b'C', 36 {
        /// The order.
        reference: U64,
        /// Shares executed.
        shares: U32,
        /// Number of the match for the day.
        match_number: U64,
        /// `Y` or `N`: to be counted in volumes and prints.
        printable: u8,
        /// In 1/10,000 dollar.
        price: U32,
    }
    /// Shares were taken off an order, which lives on with the rest.
    OrderCancel = b'X', 23 {
        /// The order.
        reference: U64,
        /// Shares taken off.
        shares: U32,
    }
    /// An order is gone with all its shares.
    OrderDelete = b'D', 19 {
        /// The order.
        reference: U64,
    }
    /// An order is gone; another takes its stock and side.
    OrderReplace = b'U', 35 {
        /// The order that is gone.
        original: U64,
        /// The new order's number.
        replacement: U64,
        /// Its shares.
        shares: U32,
        /// Its limit, in 1/10,000 dollar.
        price: U32,
    }
    /// A match against an order that was never shown.
    Trade = b'P', 44 {
        /// 0.
        reference: U64,
        /// `B`.
        side: u8,
        /// Shares.
        shares: U32,
        /// Symbol.
        stock: [u8; 8],
        /// In 1/10,000 dollar.
        price: U32,
        /// Number of the match for the day.
        match_number: U64,
    }
}

/// Lengths of the types without a layout here.
fn other_length(kind: u8) -> Option<usize> {
    Some(match kind {
        b'W' => 12,        // market-wide circuit breaker status
        b'B' => 19,        // broken trade
        b'N' | b'Y' => 20, // retail interest; short sale restriction
        b'h' => 21,        // operational halt
        b'L' => 26,        // market participant position
        b'K' => 28,        // IPO quoting period
        b'V' | b'J' => 35, // circuit breaker levels; auction collar
        b'Q' => 40,        // cross trade
        b'O' => 48,        // direct listing with capital raise
        b'I' => 50,        // net order imbalance
        _ => return None,
    })
}

/// Why bytes are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// No bytes.
    #[error("the message is empty")]
    Empty,
    /// No such message type.
    #[error("unknown message type {:?}", char::from(*.0))]
    Kind(u8),
    /// Not the type's length.
    #[error("a message of type {:?} cannot have {length} bytes", char::from(*.kind))]
    Length {
        /// The type.
        kind: u8,
        /// The length, in bytes.
        length: usize,
    },
}

/// The bytes of one message, by value. Derefs to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoded {
    bytes: [u8; MAX_MESSAGE_BYTES],
    length: u8,
}

impl Encoded {
    #[inline]
    fn of(message: &[u8]) -> Encoded {
        let mut bytes = [0; MAX_MESSAGE_BYTES];
        bytes[..message.len()].copy_from_slice(message);
        Encoded { bytes, length: message.len() as u8 }
    }
}

impl Deref for Encoded {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}
