//! A session from a seed: the same messages for the same seed and count, for ever.
//!
//! It is made up, but moves like a real one: most messages add or delete orders, the rest execute,
//! cancel and replace them, and each of these refers to an order that is live and has the shares.

use super::message::{
    AddOrder, AddOrderAttributed, Encoded, OrderCancel, OrderDelete, OrderExecuted,
    OrderExecutedPrice, OrderReplace, StockDirectory, SystemEvent, Trade, TradingAction,
};
use super::random::Random;

/// Messages that every session has beside two for each stock.
const EVENTS: u64 = 6;
const MOST_STOCKS: u64 = 100;
/// A full book deletes instead of adding: it bounds the memory of endless sessions.
const MOST_LIVE_ORDERS: usize = 1 << 18;

const SECOND: u64 = 1_000_000_000;
const HOUR: u64 = 3600 * SECOND;
const MARKET_OPENS: u64 = 9 * HOUR + HOUR / 2;
const MARKET_CLOSES: u64 = 16 * HOUR;
/// 1 cent.
const TICK: u32 = 100;
const LOWEST_MID: u32 = 1000 * TICK;
const PARTICIPANTS: [[u8; 4]; 4] = [*b"ARLO", *b"BEKA", *b"CIMA", *b"DOVE"];

/// Fewer messages were asked for than a session has: 6 system events and two for its one stock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a session has at least 8 messages, not {0}")]
pub struct TooFew(pub u64);

struct Stock {
    symbol: [u8; 8],
    mid: u32,
}

#[derive(Clone, Copy)]
struct LiveOrder {
    reference: u64,
    shares: u32,
    price: u32,
    locate: u16,
    side: u8,
}

/// Iterates the messages of a session. Holds the stocks and the live orders, at most 262,144.
pub struct Session {
    random: Random,
    stocks: Vec<Stock>,
    orders: Vec<LiveOrder>,
    messages: u64,
    position: u64,
    time: u64,
    last_reference: u64,
    last_match: u64,
}

impl Session {
    /// The session of `messages` messages, all counted, that `seed` stands for. It has one stock for
    /// every 100 messages, but at most 100.
    ///
    /// # Errors
    /// [`TooFew`] under 8 messages.
    pub fn new(seed: u64, messages: u64) -> Result<Session, TooFew> {
        if messages < EVENTS + 2 {
            return Err(TooFew(messages));
        }
        let mut random = Random::new(seed);
        let stocks = (0..(messages / 100).clamp(1, MOST_STOCKS))
            .map(|number| Stock {
                symbol: symbol(number),
                mid: LOWEST_MID + random.below(50_000) as u32 * TICK,
            })
            .collect();
        Ok(Session {
            random,
            stocks,
            orders: Vec::new(),
            messages,
            position: 0,
            time: 3 * HOUR,
            last_reference: 0,
            last_match: 0,
        })
    }

    /// Messages that are still to come.
    pub fn remaining(&self) -> u64 {
        self.messages - self.position
    }

    /// Start of messages, directory, states, start of system hours and of market hours.
    fn opening(&mut self) -> Option<Encoded> {
        let stocks = self.stocks.len() as u64;
        let step = self.position;
        if step == 0 {
            return Some(self.event(b'O', 3 * HOUR));
        }
        if let Some(stock) = self.stocks.get(step as usize - 1) {
            self.time += 1 + self.random.below(SECOND / 1000);
            return Some(directory(step as u16, self.time, stock.symbol));
        }
        if let Some(stock) = self.stocks.get((step - 1 - stocks) as usize) {
            self.time += 1 + self.random.below(SECOND / 1000);
            let locate = (step - stocks) as u16;
            return Some(trading(locate, self.time, stock.symbol));
        }
        match step - 2 * stocks {
            1 => Some(self.event(b'S', 4 * HOUR)),
            2 => Some(self.event(b'Q', MARKET_OPENS)),
            _ => None,
        }
    }

    /// End of market hours, of system hours, of messages.
    fn closing(&mut self) -> Option<Encoded> {
        match self.remaining() {
            3 => Some(self.event(b'M', MARKET_CLOSES)),
            2 => Some(self.event(b'E', 20 * HOUR)),
            1 => Some(self.event(b'C', 20 * HOUR + 300 * SECOND)),
            _ => None,
        }
    }

    fn event(&mut self, event: u8, time: u64) -> Encoded {
        self.time = time;
        SystemEvent { head: SystemEvent::head(0, time), event }.into()
    }

    /// Of four messages three come in a burst; the others share what is left of the day.
    fn pass_time(&mut self) {
        let left = MARKET_CLOSES - 1 - self.time;
        let share = left / self.remaining();
        let most = if self.random.once_in(4) { 8 * share } else { share.min(1000) };
        self.time += self.random.below(most.min(left));
    }

    fn trading_message(&mut self) -> Encoded {
        self.pass_time();
        let kind = self.random.below(1000);
        if kind >= 995 {
            return self.trade();
        }
        let book_is_full = self.orders.len() >= MOST_LIVE_ORDERS;
        if self.orders.is_empty() || (kind < 460 && !book_is_full) {
            return self.add(kind < 10);
        }
        let chosen = self.random.below(self.orders.len() as u64) as usize;
        match kind {
            860..910 => self.execute(chosen, false),
            910..915 => self.execute(chosen, true),
            915..935 if self.orders[chosen].shares > 1 => self.cancel(chosen),
            935..995 => self.replace(chosen),
            _ => self.delete(chosen),
        }
    }

    fn add(&mut self, attributed: bool) -> Encoded {
        let index = self.random.below(self.stocks.len() as u64) as usize;
        let side = if self.random.once_in(2) { b'B' } else { b'S' };
        let shares = self.shares();
        let stock = &mut self.stocks[index];
        // The price drifts a cent up or down with every tenth order.
        match self.random.below(20) {
            0 => stock.mid += TICK,
            1 if stock.mid > LOWEST_MID => stock.mid -= TICK,
            _ => {}
        }
        let (symbol, mid, locate) = (stock.symbol, stock.mid, index as u16 + 1);
        let price = self.limit(mid, side);
        let reference = self.reference();
        self.orders.push(LiveOrder { reference, shares, price, locate, side });
        if attributed {
            let participant = self.random.below(PARTICIPANTS.len() as u64) as usize;
            return AddOrderAttributed {
                head: AddOrderAttributed::head(locate, self.time),
                reference: reference.into(),
                side,
                shares: shares.into(),
                stock: symbol,
                price: price.into(),
                attribution: PARTICIPANTS[participant],
            }
            .into();
        }
        AddOrder {
            head: AddOrder::head(locate, self.time),
            reference: reference.into(),
            side,
            shares: shares.into(),
            stock: symbol,
            price: price.into(),
        }
        .into()
    }

    fn execute(&mut self, chosen: usize, at_another_price: bool) -> Encoded {
        let order = self.orders[chosen];
        let all = self.random.once_in(2);
        let shares =
            if all { order.shares } else { 1 + self.random.below(order.shares.into()) as u32 };
        if shares == order.shares {
            self.orders.swap_remove(chosen);
        } else {
            self.orders[chosen].shares -= shares;
        }
        let match_number = self.match_number();
        if at_another_price {
            // Better for the order's owner: a buyer pays less, a seller gets more.
            let price = if order.side == b'B' { order.price - TICK } else { order.price + TICK };
            return OrderExecutedPrice {
                head: OrderExecutedPrice::head(order.locate, self.time),
                reference: order.reference.into(),
                shares: shares.into(),
                match_number: match_number.into(),
                printable: b'Y',
                price: price.into(),
            }
            .into();
        }
        OrderExecuted {
            head: OrderExecuted::head(order.locate, self.time),
            reference: order.reference.into(),
            shares: shares.into(),
            match_number: match_number.into(),
        }
        .into()
    }

    /// Takes some shares off an order that has more than one, and leaves at least one.
    fn cancel(&mut self, chosen: usize) -> Encoded {
        let order = &mut self.orders[chosen];
        let shares = 1 + self.random.below(u64::from(order.shares) - 1) as u32;
        order.shares -= shares;
        OrderCancel {
            head: OrderCancel::head(order.locate, self.time),
            reference: order.reference.into(),
            shares: shares.into(),
        }
        .into()
    }

    fn delete(&mut self, chosen: usize) -> Encoded {
        let order = self.orders.swap_remove(chosen);
        OrderDelete {
            head: OrderDelete::head(order.locate, self.time),
            reference: order.reference.into(),
        }
        .into()
    }

    fn replace(&mut self, chosen: usize) -> Encoded {
        let old = self.orders[chosen];
        let mid = self.stocks[usize::from(old.locate) - 1].mid;
        let (shares, price) = (self.shares(), self.limit(mid, old.side));
        let reference = self.reference();
        self.orders[chosen] = LiveOrder { reference, shares, price, ..old };
        OrderReplace {
            head: OrderReplace::head(old.locate, self.time),
            original: old.reference.into(),
            replacement: reference.into(),
            shares: shares.into(),
            price: price.into(),
        }
        .into()
    }

    fn trade(&mut self) -> Encoded {
        let index = self.random.below(self.stocks.len() as u64) as usize;
        let shares = self.shares();
        let match_number = self.match_number();
        let stock = &self.stocks[index];
        Trade {
            head: Trade::head(index as u16 + 1, self.time),
            reference: 0.into(),
            side: b'B',
            shares: shares.into(),
            stock: stock.symbol,
            price: stock.mid.into(),
            match_number: match_number.into(),
        }
        .into()
    }

    /// Mostly round lots.
    fn shares(&mut self) -> u32 {
        let lots = 1 + self.random.below(10) as u32;
        if self.random.once_in(8) { 1 + self.random.below(99) as u32 } else { 100 * lots }
    }

    /// A limit on the side's own half of the book, up to 20 cents from the middle.
    fn limit(&mut self, mid: u32, side: u8) -> u32 {
        let away = (1 + self.random.below(20) as u32) * TICK;
        if side == b'B' { mid - away } else { mid + away }
    }

    /// Numbers grow, with holes as in real sessions.
    fn reference(&mut self) -> u64 {
        self.last_reference += 1 + self.random.below(8);
        self.last_reference
    }

    fn match_number(&mut self) -> u64 {
        self.last_match += 1;
        self.last_match
    }
}

impl Iterator for Session {
    type Item = Encoded;

    #[inline]
    fn next(&mut self) -> Option<Encoded> {
        if self.remaining() == 0 {
            return None;
        }
        let opening = 3 + 2 * self.stocks.len() as u64;
        let message = if self.position < opening { self.opening() } else { self.closing() };
        let message = message.unwrap_or_else(|| self.trading_message());
        self.position += 1;
        Some(message)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let remaining = usize::try_from(self.remaining());
        (remaining.unwrap_or(usize::MAX), remaining.ok())
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("position", &self.position)
            .field("messages", &self.messages)
            .finish_non_exhaustive()
    }
}

/// Three letters that no two stocks share, with a `Z` in front as Nasdaq's own test symbols have it.
fn symbol(number: u64) -> [u8; 8] {
    let letter = |place: u64| b'A' + (number / place % 26) as u8;
    [b'Z', letter(676), letter(26), letter(1), b' ', b' ', b' ', b' ']
}

fn directory(locate: u16, time: u64, stock: [u8; 8]) -> Encoded {
    StockDirectory {
        head: StockDirectory::head(locate, time),
        stock,
        market_category: b'Q',
        financial_status: b'N',
        round_lot: 100.into(),
        round_lots_only: b'N',
        classification: b'C',
        sub_type: *b"Z ",
        authenticity: b'T',
        short_sale_threshold: b'N',
        ipo: b'N',
        luld_tier: b'1',
        etp: b'N',
        etp_leverage: 0.into(),
        inverse: b'N',
    }
    .into()
}

fn trading(locate: u16, time: u64, stock: [u8; 8]) -> Encoded {
    TradingAction {
        head: TradingAction::head(locate, time),
        stock,
        state: b'T',
        reserved: b' ',
        reason: *b"    ",
    }
    .into()
}
