//! The page says what the parser does: the same keys, and the defaults as they are.

use std::fmt::Display;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor, value::Error};
use serde::forward_to_deserialize_any;

use super::super::{Config, raw, tests::GOOD, tests::parse};
use super::table::{SECTIONS, Unset};
use super::*;

/// A deserializer that notes which keys it is asked for.
struct Fields<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Fields<'_> {
    type Error = Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Error> {
        *self.0 = fields;
        Err(de::Error::custom("noted"))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Error> {
        Err(de::Error::custom("not a section"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// The keys that the parser takes for a `T`.
fn keys_of<T: Deserialize<'static>>() -> Vec<&'static str> {
    let mut keys: &'static [&'static str] = &[];
    assert!(T::deserialize(Fields(&mut keys)).is_err());
    let mut keys = keys.to_vec();
    keys.sort_unstable();
    keys
}

fn sorted<T: Display>(names: impl Iterator<Item = T>) -> Vec<String> {
    let mut names: Vec<_> = names.map(|name| name.to_string()).collect();
    names.sort_unstable();
    names
}

#[test]
fn every_key_of_the_parser_is_in_the_table_and_no_other() {
    let known = [
        ("node", keys_of::<raw::Node>()),
        ("port", keys_of::<raw::Port>()),
        ("shard", keys_of::<raw::Shard>()),
        ("wal", keys_of::<raw::Wal>()),
        ("cold", keys_of::<raw::Cold>()),
        ("limits", keys_of::<raw::Limits>()),
        ("stream", keys_of::<raw::Stream>()),
        ("publisher", keys_of::<raw::Publisher>()),
        ("dpdk", keys_of::<raw::Dpdk>()),
        ("log", keys_of::<raw::Log>()),
        ("metrics", keys_of::<raw::Metrics>()),
    ];
    let name = |header: &'static str| header.trim_matches(['[', ']']);
    assert_eq!(
        sorted(keys_of::<raw::Raw>().iter()),
        sorted(SECTIONS.iter().map(|section| name(section.header))),
        "sections of the parser and of reference/table.rs"
    );
    for section in SECTIONS {
        let header = section.header;
        let (_, keys) =
            known.iter().find(|(known, _)| *known == name(header)).expect("a section in this test");
        let listed = sorted(section.keys.iter().map(|key| key.name));
        assert_eq!(
            sorted(keys.iter()),
            listed,
            "{header}: the parser's keys, reference/table.rs's"
        );
    }
}

/// A sound configuration in which the keys of `header` may stand where KEYS is.
fn base(header: &str, key: &str) -> String {
    let with = |from: &str, to: &str| GOOD.replacen(from, to, 1);
    let dpdk = "driver = \"dpdk\"\nip = \"10.0.0.1\"\ndevice = \"memif\"";
    match (header, key) {
        ("[[port]]", "queue") => {
            let af_xdp =
                "driver = \"dpdk\"\nip = \"10.0.0.1\"\ndevice = \"af_xdp\"\ninterface = \"eth1\"";
            let keys = format!("{af_xdp}\nKEYS");
            let memif = "driver = \"memif\"\nip = \"10.0.0.1\"\nsocket = \"clients.sock\"";
            with(memif, &keys)
        }
        ("[[port]]", "role" | "id") => {
            with("driver = \"memif\"\nip = \"10.0.0.1\"", &format!("{dpdk}\nKEYS"))
        }
        ("[dpdk]", _) => with("driver = \"memif\"\nip = \"10.0.0.1\"", dpdk) + "[dpdk]\nKEYS\n",
        ("[metrics]", _) => {
            format!("{GOOD}[metrics]\notlp_endpoint = \"http://127.0.0.1:4317\"\nKEYS\n")
        }
        _ if GOOD.contains(header) => with(header, &format!("{header}\nKEYS")),
        _ => format!("{GOOD}{header}\nKEYS\n"),
    }
}

#[test]
fn a_default_is_what_an_unset_key_means() {
    let mut tried = 0;
    for section in SECTIONS {
        for key in section.keys {
            let Unset::Is(value) = key.unset else { continue };
            let base = base(section.header, key.name);
            let unset = parse(&base.replace("KEYS", "#")).expect("sound");
            let line = format!("{} = {value}", key.name);
            let set = parse(&base.replace("KEYS", &line))
                .unwrap_or_else(|error| panic!("{}: {line}: {error}", section.header));
            let set = Config { source: unset.source.clone(), ..set };
            assert_eq!(set, unset, "{}: {line}", section.header);
            tried += 1;
        }
    }
    assert!(tried > 15, "{tried}");
}

#[test]
fn the_page_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == reference(),
        "docs/configuration.md is old: `mstreamd --reference config > docs/configuration.md` writes it"
    );
}
