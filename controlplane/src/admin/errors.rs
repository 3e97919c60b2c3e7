//! Distinct errors: what, where, how often.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use mstream_admin::v1;

/// Distinct errors that are kept; the one that was seen last longest ago gives way.
const MOST: usize = 256;

/// The errors since the start.
#[derive(Debug, Default)]
pub struct Errors {
    seen: Mutex<HashMap<(String, String), Seen>>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    count: u64,
    first_ns: u64,
    last_ns: u64,
}

impl Errors {
    /// Notes that `text` happened at `place`, `count` times up to `now_ns`.
    pub fn note(&self, place: &str, text: &str, count: u64, now_ns: u64) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (place.to_string(), text.to_string());
        if !seen.contains_key(&key) && seen.len() >= MOST {
            let oldest =
                seen.iter().min_by_key(|(_, seen)| seen.last_ns).map(|(key, _)| key.clone());
            oldest.and_then(|key| seen.remove(&key));
        }
        let entry = seen.entry(key).or_insert(Seen { count: 0, first_ns: now_ns, last_ns: now_ns });
        entry.count += count;
        entry.last_ns = now_ns;
    }

    /// All of them, those seen last first.
    pub fn list(&self) -> Vec<v1::Error> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut errors: Vec<_> = seen
            .iter()
            .map(|((place, text), seen)| v1::Error {
                place: place.clone(),
                text: text.clone(),
                count: seen.count,
                first_ns: seen.first_ns,
                last_ns: seen.last_ns,
            })
            .collect();
        drop(seen);
        let key = |error: &v1::Error| (error.place.clone(), error.text.clone());
        errors.sort_by(|a, b| b.last_ns.cmp(&a.last_ns).then_with(|| key(a).cmp(&key(b))));
        errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_by_place_and_text_and_the_oldest_gives_way() {
        let errors = Errors::default();
        errors.note("shard 0", "malformed", 3, 10);
        errors.note("shard 1", "malformed", 1, 20);
        errors.note("shard 0", "malformed", 2, 30);
        let list = errors.list();
        let short: Vec<_> =
            list.iter().map(|e| (&*e.place, e.count, e.first_ns, e.last_ns)).collect();
        assert_eq!(short, [("shard 0", 5, 10, 30), ("shard 1", 1, 20, 20)]);
        for n in 0..MOST as u64 {
            errors.note("port", &n.to_string(), 1, 40 + n);
        }
        let list = errors.list();
        assert_eq!(list.len(), MOST);
        assert!(list.iter().all(|error| error.place == "port"));
        assert_eq!(list[0].text, (MOST - 1).to_string());
    }
}
