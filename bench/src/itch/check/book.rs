//! The state of a session that the rules speak about.

use std::collections::HashMap;

use super::Rule;
use crate::itch::message::{Head, Message};

const NANOS_OF_DAY: u64 = 24 * 3600 * 1_000_000_000;
/// The order of the system events; a phase is how many of them came.
const EVENTS: [u8; 6] = *b"OSQMEC";
const SYSTEM_HOURS_BEGIN: usize = 2;
const SYSTEM_HOURS_END: usize = 5;

#[derive(Debug)]
struct Stock {
    symbol: [u8; 8],
    trading: bool,
}

#[derive(Debug)]
struct Order {
    locate: u16,
    shares: u32,
}

#[derive(Debug)]
pub(super) struct Book {
    phase: usize,
    time: u64,
    stocks: HashMap<u16, Stock>,
    orders: HashMap<u64, Order>,
}

impl Book {
    pub(super) fn new() -> Book {
        Book { phase: 0, time: 0, stocks: HashMap::new(), orders: HashMap::new() }
    }

    pub(super) fn live_orders(&self) -> u64 {
        self.orders.len() as u64
    }

    pub(super) fn is_ended(&self) -> bool {
        self.phase == EVENTS.len()
    }

    /// Takes the next message; the first rule that it breaks. What a breaking message says is taken as
    /// far as it makes sense, so that one fault is not counted again with every later message.
    pub(super) fn take(&mut self, message: &Message<'_>) -> Result<(), Rule> {
        let framed = self.take_place(message);
        let content = self.take_content(message);
        framed.and(content)
    }

    /// When the message comes, and whether it may come then.
    fn take_place(&mut self, message: &Message<'_>) -> Result<(), Rule> {
        let nanos = message.head().time.nanos();
        let before = self.time;
        self.time = before.max(nanos);
        if self.is_ended() {
            return Err(Rule::BehindEnd);
        }
        if self.phase == 0 && !matches!(message, Message::SystemEvent(_)) {
            return Err(Rule::StartMissing);
        }
        if nanos >= NANOS_OF_DAY {
            return Err(Rule::TimeOfDay);
        }
        if nanos < before {
            return Err(Rule::TimeBackwards);
        }
        Ok(())
    }

    fn take_content(&mut self, message: &Message<'_>) -> Result<(), Rule> {
        match message {
            Message::SystemEvent(event) => self.event(event.event),
            Message::StockDirectory(entry) => self.directory(&entry.head, entry.stock),
            Message::TradingAction(action) => {
                let checked = self.symbol(&action.head, action.stock);
                if let Some(stock) = self.stocks.get_mut(&action.head.locate.get()) {
                    stock.trading = action.state == b'T';
                }
                checked
            }
            Message::AddOrder(add) => {
                let named = self.named(&add.head, add.stock, add.side);
                named.and(self.add(&add.head, add.reference.get(), add.shares.get()))
            }
            Message::AddOrderAttributed(add) => {
                let named = self.named(&add.head, add.stock, add.side);
                named.and(self.add(&add.head, add.reference.get(), add.shares.get()))
            }
            Message::OrderExecuted(executed) => {
                let (reference, shares) = (executed.reference.get(), executed.shares.get());
                let taken = self.reduce(&executed.head, reference, shares);
                self.trading(&executed.head).and(taken)
            }
            Message::OrderExecutedPrice(executed) => {
                let (reference, shares) = (executed.reference.get(), executed.shares.get());
                let taken = self.reduce(&executed.head, reference, shares);
                let flag = match executed.printable {
                    b'Y' | b'N' => Ok(()),
                    _ => Err(Rule::Printable),
                };
                self.trading(&executed.head).and(taken).and(flag)
            }
            Message::OrderCancel(cancel) => {
                self.reduce(&cancel.head, cancel.reference.get(), cancel.shares.get())
            }
            Message::OrderDelete(delete) => self.remove(&delete.head, delete.reference.get()),
            Message::OrderReplace(replace) => {
                let (head, shares) = (&replace.head, replace.shares.get());
                let replacement = replace.replacement.get();
                // A number is used once a day: not even the original's own may be taken again.
                let fresh = self.fresh(replacement);
                let removed = self.remove(head, replace.original.get());
                let added = match fresh {
                    Ok(()) => self.add(head, replacement, shares),
                    Err(rule) => Err(rule),
                };
                removed.and(added)
            }
            Message::Trade(trade) => {
                let named = self.named(&trade.head, trade.stock, trade.side);
                let shares = if trade.shares.get() == 0 { Err(Rule::NoShares) } else { Ok(()) };
                self.in_hours().and(named).and(self.trading(&trade.head)).and(shares)
            }
            Message::Other(_) => Ok(()),
        }
    }

    fn event(&mut self, event: u8) -> Result<(), Rule> {
        let expected = EVENTS.get(self.phase);
        let first = self.phase == 0;
        if let Some(place) = EVENTS.iter().position(|known| *known == event) {
            self.phase = self.phase.max(place + 1);
        }
        match expected {
            Some(expected) if *expected == event => Ok(()),
            _ if first => Err(Rule::StartMissing),
            _ => Err(Rule::EventOrder),
        }
    }

    /// The entry of a stock; it may be repeated, but a number keeps its symbol.
    fn directory(&mut self, head: &Head, symbol: [u8; 8]) -> Result<(), Rule> {
        let known = self.stocks.entry(head.locate.get());
        let stock = known.or_insert(Stock { symbol, trading: false });
        if stock.symbol == symbol { Ok(()) } else { Err(Rule::WrongSymbol) }
    }

    fn symbol(&self, head: &Head, symbol: [u8; 8]) -> Result<(), Rule> {
        match self.stocks.get(&head.locate.get()) {
            None => Err(Rule::UnknownStock),
            Some(stock) if stock.symbol != symbol => Err(Rule::WrongSymbol),
            Some(_) => Ok(()),
        }
    }

    fn named(&self, head: &Head, symbol: [u8; 8], side: u8) -> Result<(), Rule> {
        self.symbol(head, symbol)?;
        if matches!(side, b'B' | b'S') { Ok(()) } else { Err(Rule::Side) }
    }

    fn trading(&self, head: &Head) -> Result<(), Rule> {
        match self.stocks.get(&head.locate.get()) {
            None => Err(Rule::UnknownStock),
            Some(stock) if !stock.trading => Err(Rule::NotTrading),
            Some(_) => Ok(()),
        }
    }

    fn in_hours(&self) -> Result<(), Rule> {
        if (SYSTEM_HOURS_BEGIN..SYSTEM_HOURS_END).contains(&self.phase) {
            Ok(())
        } else {
            Err(Rule::OutsideHours)
        }
    }

    fn fresh(&self, reference: u64) -> Result<(), Rule> {
        if self.orders.contains_key(&reference) { Err(Rule::ReferenceInUse) } else { Ok(()) }
    }

    fn add(&mut self, head: &Head, reference: u64, shares: u32) -> Result<(), Rule> {
        self.fresh(reference)?;
        self.orders.insert(reference, Order { locate: head.locate.get(), shares });
        self.in_hours()?;
        if shares == 0 { Err(Rule::NoShares) } else { Ok(()) }
    }

    /// Takes shares off an order; it is gone when none are left.
    fn reduce(&mut self, head: &Head, reference: u64, shares: u32) -> Result<(), Rule> {
        let order = self.orders.get_mut(&reference).ok_or(Rule::UnknownOrder)?;
        let (locate, before) = (order.locate, order.shares);
        order.shares = before.saturating_sub(shares);
        if order.shares == 0 {
            self.orders.remove(&reference);
        }
        self.in_hours()?;
        if locate != head.locate.get() {
            Err(Rule::WrongStock)
        } else if shares == 0 {
            Err(Rule::NoShares)
        } else if shares > before {
            Err(Rule::TooManyShares)
        } else {
            Ok(())
        }
    }

    fn remove(&mut self, head: &Head, reference: u64) -> Result<(), Rule> {
        let order = self.orders.remove(&reference).ok_or(Rule::UnknownOrder)?;
        self.in_hours()?;
        if order.locate == head.locate.get() { Ok(()) } else { Err(Rule::WrongStock) }
    }
}
