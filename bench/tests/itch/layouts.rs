//! Types, lengths and fields against the specification's tables.

use mstream_bench::itch::check::{Checker, Strictness};
use mstream_bench::itch::message::{Message, ShapeError};

#[test]
fn types_and_lengths_are_minded_even_when_lenient() {
    // Every type of the specification with its length in bytes.
    let lengths = [
        (b'S', 12),
        (b'R', 39),
        (b'H', 25),
        (b'Y', 20),
        (b'L', 26),
        (b'V', 35),
        (b'W', 12),
        (b'K', 28),
        (b'J', 35),
        (b'h', 21),
        (b'A', 36),
        (b'F', 40),
        (b'E', 31),
        (b'C', 36),
        (b'X', 23),
        (b'D', 19),
        (b'U', 35),
        (b'P', 44),
        (b'Q', 40),
        (b'B', 19),
        (b'I', 50),
        (b'N', 20),
        (b'O', 48),
    ];
    for kind in 0..=255u8 {
        let known = lengths.iter().find(|(known, _)| *known == kind);
        for length in 1..=60 {
            let mut bytes = vec![0; length];
            bytes[0] = kind;
            let expected = match known {
                None => Err(ShapeError::Kind(kind)),
                Some((_, right)) if *right == length => Ok(()),
                Some(_) => Err(ShapeError::Length { kind, length }),
            };
            assert_eq!(Message::parse(&bytes).map(|_| ()), expected);
            if let (Err(expected), Err(error)) =
                (expected, Checker::new(Strictness::Lenient).message(&bytes))
            {
                let expected = format!("message 0, at byte 0: {expected}");
                assert_eq!(error.to_string(), expected);
            }
        }
    }
    assert_eq!(Message::parse(&[]), Err(ShapeError::Empty));
}

#[test]
fn fields_stand_where_the_specification_puts_them() {
    let add = b"F\x00\x02\x00\x03\x00\x01\x02\x03\x04\x05\x00\x00\x00\x00\x00\x01\x4b\x64S\x00\x00\x00\x64ZXZZT   \x00\x00\xce\xb5ABCD";
    let Ok(Message::AddOrderAttributed(add)) = Message::parse(add) else { panic!("not an add") };
    assert_eq!((add.head.locate.get(), add.head.tracking.get()), (2, 3));
    assert_eq!(add.head.time.nanos(), 0x0001_0203_0405);
    assert_eq!((add.reference.get(), add.side, add.shares.get()), (0x14b64, b'S', 100));
    assert_eq!((&add.stock, add.price.get(), &add.attribution), (b"ZXZZT   ", 52_917, b"ABCD"));

    let executed =
        b"C\0\x01\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\x07\0\0\0\x05\0\0\0\0\0\0\0\x06N\0\0\x01\0";
    let Ok(Message::OrderExecutedPrice(executed)) = Message::parse(executed) else {
        panic!("not an execution")
    };
    assert_eq!((executed.reference.get(), executed.shares.get()), (7, 5));
    assert_eq!(
        (executed.match_number.get(), executed.printable, executed.price.get()),
        (6, b'N', 256)
    );

    let replace =
        b"U\0\x01\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0\x08\0\0\0\x05\0\0\0\x04";
    let Ok(Message::OrderReplace(replace)) = Message::parse(replace) else { panic!("no replace") };
    assert_eq!((replace.original.get(), replace.replacement.get()), (7, 8));
    assert_eq!((replace.shares.get(), replace.price.get()), (5, 4));

    let directory = b"R\0\x01\0\0\0\0\0\0\0\x09ZXZZT   QN\0\0\0\x64YCZ TNY2N\0\0\0\x02Y";
    let Ok(Message::StockDirectory(entry)) = Message::parse(directory) else { panic!("no entry") };
    assert_eq!(
        (entry.market_category, entry.financial_status, entry.round_lot.get()),
        (b'Q', b'N', 100)
    );
    assert_eq!((entry.round_lots_only, entry.classification, &entry.sub_type), (b'Y', b'C', b"Z "));
    assert_eq!((entry.authenticity, entry.short_sale_threshold, entry.ipo), (b'T', b'N', b'Y'));
    assert_eq!(
        (entry.luld_tier, entry.etp, entry.etp_leverage.get(), entry.inverse),
        (b'2', b'N', 2, b'Y')
    );
}
