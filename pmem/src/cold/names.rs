//! Names of cold segments, and what those in a directory mean together.

use crate::planted::{Bug, planted};

/// What stands behind the name of a file that is being written.
pub(crate) const NEW: &str = ".new";
const COLD: &str = ".cold";

/// The name of the file that covers these hot segments.
pub(crate) fn name_of(from: u64, to: u64) -> String {
    format!("{from:08}-{to:08}{COLD}")
}

/// The hot segments that a file's name says.
pub(crate) fn range_of(name: &str) -> Option<(u64, u64)> {
    let (from, to) = name.strip_suffix(COLD)?.split_once('-')?;
    let range = (from.parse().ok()?, to.parse().ok()?);
    (range.0 > 0 && range.0 <= range.1 && name_of(range.0, range.1) == name).then_some(range)
}

/// True for the name of a cold segment, whole or half written.
pub fn is_cold_name(name: &str) -> bool {
    range_of(name.strip_suffix(NEW).unwrap_or(name)).is_some()
}

/// What a name means beside the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// What the file holds counts.
    Counts,
    /// It was being written.
    HalfWritten,
    /// A merge's output, which is named, replaces it.
    Within(String),
    /// It covers in part what the one that is named covers too.
    Overlaps(String),
}

/// A cold segment's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) range: (u64, u64),
    pub(crate) place: Place,
}

/// The cold segments among `names`: in order of what they cover, what contains others before them, and half-written ones
/// last. Others are left out.
pub(crate) fn arranged(names: &[String]) -> Vec<Named> {
    let whole = names.iter().filter_map(|name| Some((range_of(name)?, name)));
    let mut whole: Vec<((u64, u64), &String)> = whole.collect();
    whole.sort_by_key(|((from, to), _)| (*from, std::cmp::Reverse(*to)));
    let mut arranged: Vec<Named> = Vec::new();
    let mut last: Option<((u64, u64), &String)> = None;
    for (range, name) in whole {
        let place = match last {
            Some((before, of)) if range.0 <= before.1 && !planted(Bug::ColdInputsCount) => {
                match range.1 > before.1 {
                    true => Place::Overlaps(of.clone()),
                    false => Place::Within(of.clone()),
                }
            }
            _ => Place::Counts,
        };
        if place == Place::Counts {
            last = Some((range, name));
        }
        arranged.push(Named { name: name.clone(), range, place });
    }
    let half = names.iter().filter_map(|name| Some((range_of(name.strip_suffix(NEW)?)?, name)));
    let mut half: Vec<Named> = half
        .map(|(range, name)| Named { name: name.clone(), range, place: Place::HalfWritten })
        .collect();
    half.sort_by_key(|named| named.range);
    arranged.append(&mut half);
    arranged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_ranges() {
        assert_eq!(name_of(5, 12), "00000005-00000012.cold");
        assert_eq!(range_of("00000005-00000012.cold"), Some((5, 12)));
        assert_eq!(range_of(&name_of(1, u64::MAX)), Some((1, u64::MAX)));
        let others = ["5-12.cold", "00000012-00000005.cold", "00000000-00000005.cold", "lock"];
        for other in
            others.into_iter().chain(["00000005-00000012.cold.new", "+0000005-00000012.cold"])
        {
            assert_eq!(range_of(other), None, "{other}");
        }
        assert!(is_cold_name("00000005-00000012.cold.new") && !is_cold_name("5-12.cold.new"));
    }

    #[test]
    fn the_wider_name_counts_and_overlaps_are_seen() {
        let names = [
            "00000006-00000009.cold",
            "00000002-00000002.cold",
            "notes",
            "00000001-00000004.cold",
            "00000003-00000003.cold.new",
            "00000004-00000006.cold",
        ];
        let arranged = arranged(&names.map(String::from));
        let found: Vec<(&str, Place)> =
            arranged.iter().map(|named| (named.name.as_str(), named.place.clone())).collect();
        let widest = "00000001-00000004.cold".to_string();
        assert_eq!(
            found,
            [
                ("00000001-00000004.cold", Place::Counts),
                ("00000002-00000002.cold", Place::Within(widest.clone())),
                ("00000004-00000006.cold", Place::Overlaps(widest)),
                ("00000006-00000009.cold", Place::Counts),
                ("00000003-00000003.cold.new", Place::HalfWritten),
            ]
        );
    }
}
