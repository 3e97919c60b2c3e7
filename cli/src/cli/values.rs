//! Values on the command line that are more than a number or a word.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mstream_client::From;
use mstream_controlplane::config::parse_bytes;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A span: a number with a unit.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "a time is wanted, such as 500ms, 5s, 10m, 2h or 7d".to_owned();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let ms: u64 = match &text[digits..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    // No clock here goes beyond ns in 64 bits: 584 years.
    let ms = number.checked_mul(ms).filter(|ms| *ms < u64::MAX / 1_000_000).ok_or("too long")?;
    Ok(Duration::from_millis(ms))
}

/// A span that is not 0.
pub(super) fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("must not be 0".into()),
        span => Ok(span),
    }
}

/// A span, or "forever": none.
pub(super) fn patience(text: &str) -> Result<Duration, String> {
    match text {
        "forever" => Ok(Duration::MAX),
        text => positive_duration(text).map_err(|why| format!("{why}, or \"forever\"")),
    }
}

/// A number of bytes, with or without a unit.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    text.parse()
        .ok()
        .or_else(|| parse_bytes(text))
        .ok_or_else(|| "a number of bytes is wanted, such as 4096 or \"64 MiB\"".into())
}

/// As [`bytes`], of a block.
pub(super) fn block_bytes(text: &str) -> Result<u32, String> {
    u32::try_from(bytes(text)?).map_err(|_| "too large".into())
}

/// Messages per second: 1000, 1000/s, 10k/s, 2M.
pub(super) fn rate(text: &str) -> Result<u64, String> {
    let number = text.strip_suffix("/s").unwrap_or(text);
    let (number, factor) = match number.strip_suffix(['k', 'M']) {
        Some(rest) if number.ends_with('k') => (rest, 1_000),
        Some(rest) => (rest, 1_000_000),
        None => (number, 1),
    };
    number
        .parse()
        .ok()
        .and_then(|number: u64| number.checked_mul(factor))
        .filter(|rate| (1..=1_000_000_000).contains(rate))
        .ok_or_else(|| "messages per second are wanted, such as 1000, 10k/s or 2M".into())
}

/// A name of a context.
pub(super) fn name(text: &str) -> Result<String, String> {
    match text.is_empty() || text.chars().any(char::is_control) {
        true => Err("a name has at least one letter and no control characters".into()),
        false => Ok(text.into()),
    }
}

/// Where reading begins.
pub(super) fn start(text: &str) -> Result<From, String> {
    match text {
        "earliest" => return Ok(From::Earliest),
        "latest" => return Ok(From::Latest),
        _ => {}
    }
    if let Ok(offset) = text.parse() {
        return Ok(From::Offset(offset));
    }
    if let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) {
        let ns = u64::try_from(time.unix_timestamp_nanos());
        return ns.map(From::Time).map_err(|_| "the time is outside 1970 to 2554".into());
    }
    let Ok(ago) = duration(text) else {
        return Err(
            "earliest, latest, an offset, a time such as 2026-01-31T09:30:00Z, or how long ago such as 10m"
                .into(),
        );
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(From::Time(now.saturating_sub(ago).as_nanos() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_rates_and_sizes_say_their_units() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7200)));
        for wrong in
            ["", "5", "s", "-1s", "1.5s", "5 s", "5w", "99999999999999999999s", "9999999999999d"]
        {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert!(positive_duration("0s").is_err());
        assert_eq!(patience("forever"), Ok(Duration::MAX));
        assert_eq!(
            ["7", "7/s", "7k", "7M/s"].map(|t| rate(t).ok()),
            [7, 7, 7_000, 7_000_000].map(Some)
        );
        for wrong in ["", "0", "-1", "1/m", "k", "1G", "2000000000"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
        assert_eq!((bytes("4096"), bytes("4 KiB")), (Ok(4096), Ok(4096)));
        assert!(bytes("4 KB").is_err() && block_bytes("5 GiB").is_err());
    }

    #[test]
    fn reading_begins_at_an_offset_or_a_time() {
        assert_eq!(start("17"), Ok(From::Offset(17)));
        assert_eq!(start("1970-01-01T00:00:01Z"), Ok(From::Time(1_000_000_000)));
        assert_eq!(start("1970-01-01T01:00:01+01:00"), Ok(From::Time(1_000_000_000)));
        assert!(matches!(start("10m"), Ok(From::Time(_))));
        for wrong in
            ["", "first", "-1", "1969-01-01T00:00:00Z", "2026-01-31", "18446744073709551616"]
        {
            assert!(start(wrong).is_err(), "{wrong}");
        }
    }
}
