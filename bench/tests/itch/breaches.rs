//! Each rule of a session broken on purpose.

use mstream_bench::itch::check::{CheckError, Rule, Strictness, check};
use mstream_bench::itch::message::Message;

use crate::{Messages, judge, plain, reader, session};

/// Where the first message of a type is.
fn first(messages: &[Vec<u8>], kind: u8) -> usize {
    messages.iter().position(|message| message[0] == kind).expect("a message of the type")
}

/// Where the first message is that cancels shares of an order added before; the order's place too.
fn cancelled_order(messages: &[Vec<u8>]) -> (usize, usize) {
    let cancel = first(messages, b'X');
    let added = messages[..cancel].iter().rposition(|message| {
        let reference = match message[0] {
            b'A' | b'F' => &message[11..19],
            b'U' => &message[19..27],
            _ => return false,
        };
        reference == &messages[cancel][11..19]
    });
    (cancel, added.expect("the order's beginning"))
}

type Mutation = fn(&mut Messages) -> usize;

/// One breach of each rule. A mutation returns the number of the message that breaks it.
const BREACHES: [(&str, Rule, Mutation); 34] = [
    ("no start", Rule::StartMissing, |m| {
        m.remove(0);
        0
    }),
    ("another event first", Rule::StartMissing, |m| {
        m[0][11] = b'Q';
        0
    }),
    ("no end", Rule::EndMissing, |m| {
        m.pop();
        m.len()
    }),
    ("behind the end", Rule::BehindEnd, |m| {
        m.push(m[m.len() - 1].clone());
        m.len() - 1
    }),
    ("an event twice", Rule::EventOrder, |m| {
        let opens = m.iter().position(|m| m[0] == b'S' && m[11] == b'Q').unwrap();
        m.insert(opens, m[opens].clone());
        opens + 1
    }),
    ("an unknown event", Rule::EventOrder, |m| {
        let last = m.len() - 1;
        m[last][11] = b'Z';
        last
    }),
    ("market closes before it opens", Rule::EventOrder, |m| {
        let opens = m.iter().position(|m| m[0] == b'S' && m[11] == b'Q').unwrap();
        m[opens][11] = b'M';
        opens
    }),
    ("a nanosecond back", Rule::TimeBackwards, |m| {
        let at = first(m, b'D');
        let before = Message::parse(&m[at - 1]).unwrap().head().time.nanos();
        m[at][5..11].copy_from_slice(&(before - 1).to_be_bytes()[2..]);
        at
    }),
    ("tomorrow", Rule::TimeOfDay, |m| {
        let last = m.len() - 1;
        m[last][5..11].copy_from_slice(&86_400_000_000_000u64.to_be_bytes()[2..]);
        last
    }),
    ("a stock without entry", Rule::UnknownStock, |m| {
        let at = first(m, b'A');
        m[at][1] = 0x70;
        at
    }),
    ("a state without entry", Rule::UnknownStock, |m| {
        let at = first(m, b'H');
        m[at][1] = 0x70;
        at
    }),
    ("a trade in a stock without entry", Rule::UnknownStock, |m| {
        let at = first(m, b'P');
        m[at][1] = 0x70;
        at
    }),
    ("a number for two stocks", Rule::WrongSymbol, |m| {
        let at = first(m, b'R') + 1;
        let number = [m[at - 1][1], m[at - 1][2]];
        m[at][1..3].copy_from_slice(&number);
        at
    }),
    ("a state of another symbol", Rule::WrongSymbol, |m| {
        let at = first(m, b'H');
        m[at][11] = b'?';
        at
    }),
    ("an order of another symbol", Rule::WrongSymbol, |m| {
        let at = first(m, b'F');
        m[at][24] = b'?';
        at
    }),
    ("a trade of another symbol", Rule::WrongSymbol, |m| {
        let at = first(m, b'P');
        m[at][24] = b'?';
        at
    }),
    ("an order before system hours", Rule::OutsideHours, |m| {
        let hours = m.iter().position(|m| m[0] == b'S' && m[11] == b'S').unwrap();
        let mut early = m[first(m, b'A')].clone();
        early[5..11].copy_from_slice(&m[hours].clone()[5..11]);
        early[11] = 0xFF;
        m.insert(hours, early);
        hours
    }),
    ("a trade behind system hours", Rule::OutsideHours, |m| {
        let last = m.len() - 1;
        let mut late = m[first(m, b'P')].clone();
        late[5..11].copy_from_slice(&m[last].clone()[5..11]);
        m.insert(last, late);
        last
    }),
    ("an execution while halted", Rule::NotTrading, |m| halt_stock_of(m, b'E')),
    ("an execution at a price while halted", Rule::NotTrading, |m| halt_stock_of(m, b'C')),
    ("a trade while halted", Rule::NotTrading, |m| halt_stock_of(m, b'P')),
    ("a number that is in use", Rule::ReferenceInUse, |m| {
        let (cancel, added) = cancelled_order(m);
        let mut again = m[added + 1..cancel].iter().position(|m| m[0] == b'A').unwrap();
        again += added + 1;
        let reference = m[cancel][11..19].to_vec();
        m[again][11..19].copy_from_slice(&reference);
        again
    }),
    ("a replacement that keeps the number", Rule::ReferenceInUse, |m| {
        let at = first(m, b'U');
        m[at].copy_within(11..19, 19);
        at
    }),
    ("an execution of no order", Rule::UnknownOrder, |m| unknown(m, b'E')),
    ("an execution at a price of no order", Rule::UnknownOrder, |m| unknown(m, b'C')),
    ("a cancel of no order", Rule::UnknownOrder, |m| unknown(m, b'X')),
    ("a delete of no order", Rule::UnknownOrder, |m| unknown(m, b'D')),
    ("a replace of no order", Rule::UnknownOrder, |m| unknown(m, b'U')),
    ("a delete in another stock", Rule::WrongStock, |m| {
        let at = first(m, b'D');
        m[at][2] ^= 1;
        at
    }),
    ("more shares than there are", Rule::TooManyShares, |m| {
        let (cancel, added) = cancelled_order(m);
        let shares = if m[added][0] == b'U' { 27..31 } else { 20..24 };
        let shares = m[added][shares].to_vec();
        m[cancel][19..23].copy_from_slice(&shares);
        m[cancel][22] = m[cancel][22].wrapping_add(1);
        cancel
    }),
    ("an order of no shares", Rule::NoShares, |m| {
        let at = first(m, b'A');
        m[at][20..24].fill(0);
        at
    }),
    ("an execution of no shares", Rule::NoShares, |m| {
        let at = first(m, b'E');
        m[at][19..23].fill(0);
        at
    }),
    ("no side", Rule::Side, |m| {
        let at = first(m, b'A');
        m[at][19] = b'X';
        at
    }),
    ("no printable flag", Rule::Printable, |m| {
        let at = first(m, b'C');
        m[at][31] = b'?';
        at
    }),
];

/// Puts a halt of its stock before the first message of the type.
fn halt_stock_of(messages: &mut Messages, kind: u8) -> usize {
    let at = first(messages, kind);
    let mut halt = messages
        .iter()
        .find(|message| message[0] == b'H' && message[1..3] == messages[at][1..3])
        .expect("the stock's state")
        .clone();
    halt[5..11].copy_from_slice(&messages[at][5..11]);
    halt[19] = b'H';
    messages.insert(at, halt);
    at + 1
}

/// Gives the first message of the type the number of an order that never was.
fn unknown(messages: &mut Messages, kind: u8) -> usize {
    let at = first(messages, kind);
    messages[at][11] = 0xFF;
    at
}

#[test]
fn each_broken_rule_is_named_where_it_is_broken() {
    let good = session(5, 5_000);
    for (name, rule, mutation) in BREACHES {
        let mut bad = good.clone();
        let message = mutation(&mut bad);
        let at = bad[..message].iter().map(|message| 2 + message.len() as u64).sum::<u64>();
        let fault = match check(reader(plain(&bad)), Strictness::Strict) {
            Err(CheckError::Rule(fault)) => fault,
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!((fault.rule, fault.message, fault.at), (rule, message as u64, at), "{name}");
        assert_eq!(fault.to_string(), format!("message {message}, at byte {at}: {rule}"));
        let report = judge(&bad, Strictness::Lenient).unwrap();
        assert_eq!(report.first_fault, Some(fault), "{name}");
        assert!(report.broken().any(|(broken, count)| broken == rule && count > 0), "{name}");
    }
    for rule in Rule::ALL {
        assert!(BREACHES.iter().any(|breach| breach.1 == rule), "no breach of {rule:?} is tried");
    }
}

#[test]
fn taking_all_shares_ends_an_order() {
    let mut messages = session(5, 5_000);
    let at = first(&messages, b'D');
    let delete = messages[at].clone();
    messages.insert(at, delete);
    let error = judge(&messages, Strictness::Strict).unwrap_err().to_string();
    assert!(error.starts_with(&format!("message {}, ", at + 1)), "{error}");
    assert!(error.ends_with("the order is not live"), "{error}");
}
