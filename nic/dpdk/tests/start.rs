//! Starts of DPDK that must fail, with what helps.

use mstream_nic_dpdk::{DpdkError, Eal, EalConfig, Memory};

#[test]
fn failed_starts_say_what_helps() {
    let config = EalConfig::new(0);
    for name in ["", "two words", "../elsewhere"] {
        let refused = Eal::init(&EalConfig { name: name.into(), ..config.clone() });
        assert!(matches!(refused, Err(DpdkError::Setting { setting: "name", .. })), "{refused:?}");
    }

    let more_than_there_is = Memory::HugePages { mib: 1 << 22 };
    let refused = Eal::init(&EalConfig { memory: more_than_there_is, ..config.clone() });
    let Err(error @ DpdkError::Start { .. }) = refused else { panic!("{refused:?}") };
    let text = error.to_string();
    assert!(text.contains("write 2097152 or more to /proc/sys/vm/nr_hugepages"), "{text}");

    // DPDK cannot be tried again, and says so itself in some cases only.
    assert!(matches!(Eal::init(&config), Err(DpdkError::AlreadyStarted)));
}
