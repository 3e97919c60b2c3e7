//! Sound and unsound configurations.

use std::path::Path;

use super::*;

pub(super) const GOOD: &str = r#"[node]
id = 1
run_dir = "/run/mstream"
[[port]]
name = "clients"
driver = "memif"
ip = "10.0.0.1"
socket = "clients.sock"
[[shard]]
core = 0
ports = ["clients"]
udp_port = 7500
idle = "yield"
[wal]
dir = "/dev/shm/mstream"
segment_bytes = "1 MiB"
max_bytes = "16 MiB"
[[stream]]
id = 1
name = "market"
[[publisher]]
id = 1
name = "feed"
"#;

pub(super) fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new("test.toml"), text, &[0, 1])
}

/// The problems of [`GOOD`] with `from` replaced by `to`.
fn problems(from: &str, to: &str) -> Vec<(usize, String)> {
    assert!(GOOD.contains(from), "{from}");
    match parse(&GOOD.replacen(from, to, 1)) {
        Err(ConfigError::Wrong(problems)) => problems.list().to_vec(),
        other => panic!("{to}: {other:?}"),
    }
}

#[test]
fn files_need_not_be_synced() {
    let with =
        |keys: &str| parse(&GOOD.replace("[wal]", &format!("[wal]\n{keys}"))).expect("sound");
    assert_eq!(with("sync = false").wal.sync, None);
    let sync = with("sync = true\nsync_poll_us = 7\nsync_window_bytes = \"1 MiB\"").wal.sync;
    let poll = Duration::from_micros(7);
    assert_eq!(sync, Some(SyncConfig { poll, window_bytes: 1 << 20 }));
}

#[test]
fn what_is_left_out_has_defaults() {
    let config = parse(GOOD).expect("sound");
    assert_eq!(config.node.name, "node-1");
    assert_eq!(config.node.control_core, 1, "a core without a shard");
    let port = &config.ports[0];
    assert_eq!(port.mac, Some([2, 0, 10, 0, 0, 1]));
    let socket = PathBuf::from("/run/mstream/clients.sock");
    assert_eq!(port.driver, Driver::Memif { socket, max_connections: 64, trusted: false });
    assert!(port.frames > config.limits.pending_frames);
    assert_eq!((config.wal.segments, config.wal.ready_segments), (16, 2));
    assert_eq!(config.wal.shard_dir(0), Path::new("/dev/shm/mstream/shard-0"));
    let poll = Duration::from_micros(50);
    let window_bytes = 256 << 10;
    assert_eq!(config.wal.sync, Some(SyncConfig { poll, window_bytes }), "a quarter of a segment");
    assert_eq!(config.streams[0].shard, 0);
    assert!(!config.uses_dpdk());
    assert_eq!(config.remarks(), Vec::<String>::new());
}

#[test]
fn a_port_has_addresses_of_either_family_or_both() {
    let both =
        parse(&GOOD.replacen("\"10.0.0.1\"", "\"10.0.0.1\"\nip6 = \"fd00::1\"\nvlan = 7", 1));
    let both = &both.expect("sound").ports[0];
    let addresses: Vec<String> = both.addresses().map(|ip| ip.to_string()).collect();
    assert_eq!(addresses, ["10.0.0.1", "fd00::1"]);
    assert_eq!((both.vlan, both.mac), (Some(7), Some([2, 0, 10, 0, 0, 1])));
    let v6 = parse(&GOOD.replacen("ip = \"10.0.0.1\"", "ip6 = \"fd00::1:203\"", 1));
    let v6 = &v6.expect("sound").ports[0];
    assert_eq!((v6.ip, v6.vlan, v6.mac), (None, None, Some([2, 0, 0, 1, 2, 3])));
}

#[test]
fn what_cannot_be_is_refused_with_line_key_and_reason() {
    let cases = [
        ("core = 0", "cor = 0", 10, "unknown key `cor`, expected one of `core`"),
        ("core = 0", "core = \"zero\"", 10, "`core`: invalid type: string \"zero\""),
        ("core = 0\n", "", 9, "`[[shard]]`: missing key `core`"),
        ("core = 0", "core = 7", 10, "`core`: there is no core 7; this process may use 0, 1"),
        ("core = 0", "core = -1", 10, "`core`: "),
        ("core = 0", "core = ", 10, ""),
        ("ports = [\"clients\"]", "ports = []", 11, "`ports`: shard 0 has no port"),
        (
            "ports = [\"clients\"]",
            "ports = [\"clients\", \"x\"]",
            11,
            "`ports`: there is no port `x`",
        ),
        (
            "ports = [\"clients\"]",
            "ports = [\"clients\", \"clients\"]",
            11,
            "`ports`: `clients` is named twice",
        ),
        ("udp_port = 7500", "udp_port = 0", 12, "`udp_port`: "),
        ("udp_port = 7500", "udp_port = 70000", 12, "`udp_port`: "),
        ("\"yield\"", "\"sleep\"", 13, "`idle`: unknown variant `sleep`"),
        ("\"memif\"", "\"xdp\"", 6, "`driver`: unknown variant `xdp`"),
        ("\"memif\"", "\"socket\"", 8, "`socket` is not for driver = \"socket\""),
        ("\"memif\"", "\"dpdk\"", 4, "`device`: "),
        ("\"10.0.0.1\"", "\"10.0.0\"", 7, "`ip`: "),
        ("\"10.0.0.1\"", "\"224.0.0.1\"", 7, "`ip`: 224.0.0.1 is not"),
        ("ip = \"10.0.0.1\"\n", "", 4, "`ip`: a port needs an address"),
        ("ip = \"10.0.0.1\"", "ip6 = \"fd00::g\"", 7, "`ip6`: "),
        ("ip = \"10.0.0.1\"", "ip6 = \"10.0.0.1\"", 7, "`ip6`: "),
        ("ip = \"10.0.0.1\"", "ip6 = \"ff02::1\"", 7, "`ip6`: ff02::1 is not"),
        ("ip = \"10.0.0.1\"", "ip6 = \"::ffff:10.0.0.1\"", 7, "`ip6`: ::ffff:10.0.0.1 is not"),
        ("\"10.0.0.1\"", "\"10.0.0.1\"\nvlan = 0", 8, "`vlan`: 0 is not in 1 to 4094"),
        ("\"10.0.0.1\"", "\"10.0.0.1\"\nvlan = 4095", 8, "`vlan`: 4095 is not in 1 to 4094"),
        ("\"10.0.0.1\"", "\"10.0.0.1\"\nvlan = 70000", 8, "`vlan`: "),
        (
            "\"memif\"\nip = \"10.0.0.1\"\nsocket = \"clients.sock\"",
            "\"socket\"\nip = \"10.0.0.1\"\nip6 = \"fd00::1\"",
            8,
            "`ip6`: a socket port has one address",
        ),
        (
            "\"memif\"\nip = \"10.0.0.1\"\nsocket = \"clients.sock\"",
            "\"socket\"\nip6 = \"fe80::1\"",
            7,
            "`ip6`: fe80::1 means another host on each interface",
        ),
        (
            "\"memif\"\nip = \"10.0.0.1\"\nsocket = \"clients.sock\"",
            "\"socket\"\nip = \"10.0.0.1\"\nvlan = 5",
            8,
            "`vlan` is not for driver = \"socket\"",
        ),
        ("\"10.0.0.1\"", "\"10.0.0.1\"\nmac = \"ff:ff:ff:ff:ff:ff\"", 8, "`mac`: "),
        ("\"10.0.0.1\"", "\"10.0.0.1\"\nframes = 1000", 8, "`frames`: 1000 is not in 1089 to"),
        ("\"10.0.0.1\"", "\"10.0.0.1\"\nmax_connections = 0", 8, "`max_connections`: 0 is not"),
        ("socket = \"clients.sock\"\n", "", 4, "`socket`: a memif port needs"),
        ("\"1 MiB\"", "\"1 MB\"", 16, "`segment_bytes`: invalid value"),
        ("\"1 MiB\"", "1000000", 16, "`segment_bytes`: 1000000 is not a multiple of 4096"),
        ("\"16 MiB\"", "\"3 MiB\"", 17, "`max_bytes`: 3 segments; ready_segments = 2"),
        ("\"16 MiB\"", "1048577", 17, "`max_bytes`: 1048577 is not a multiple"),
        ("\"16 MiB\"", "\"1 TiB\"", 17, "`max_bytes`: a log has at most"),
        ("dir = \"/dev/shm/mstream\"\n", "", 14, "`[wal]`: missing key `dir`"),
        ("[[stream]]", "require = \"disk\"\n[[stream]]", 18, "`require`: unknown level `disk`"),
        (
            "[[stream]]",
            "sync_window_bytes = \"8 KiB\"\n[[stream]]",
            18,
            "`sync_window_bytes`: 8192 is not in 16384 to 1073741824",
        ),
        (
            "[[stream]]",
            "sync_window_bytes = 65535\n[[stream]]",
            18,
            "`sync_window_bytes`: not a multiple of 64",
        ),
        ("[[stream]]", "sync_poll_us = 0\n[[stream]]", 18, "`sync_poll_us`: 0 is not in 1 to"),
        ("id = 1\nname = \"market\"", "id = 0\nname = \"market\"", 19, "`id`: "),
        ("\"market\"", "\"market\"\nshard = 1", 21, "`shard`: there is no shard 1"),
        ("[[publisher]]", "[[stream]]\nid = 1\nname = \"b\"\n[[publisher]]", 22, "`id`: a second"),
        (
            "[[publisher]]",
            "[[stream]]\nid = 2\nname = \"market\"\n[[publisher]]",
            23,
            "`name`: a second stream `market`",
        ),
        ("id = 1\nname = \"feed\"", "id = 9223372036854775808\nname = \"feed\"", 22, ""),
        ("[[publisher]]", "[limits]\nsessions = 0\n[[publisher]]", 22, "`sessions`: 0 is not in 1"),
        (
            "[[publisher]]",
            "[limits]\nmax_block_bytes = \"9 KiB\"\n[[publisher]]",
            22,
            "`max_block_bytes`: 9216 is not in 64 to 1344",
        ),
        ("[[publisher]]", "[dpdk]\nmemory_mib = 64\n[[publisher]]", 21, "[dpdk] is set, but no"),
        (
            "[[publisher]]",
            "[log]\nlevel = \"loud\"\n[[publisher]]",
            22,
            "`level`: unknown level `loud`",
        ),
        (
            "[[publisher]]",
            "[log]\nformat = \"xml\"\n[[publisher]]",
            22,
            "`format`: unknown variant",
        ),
        (
            "[[publisher]]",
            "[log]\njournald = \"no\"\n[[publisher]]",
            22,
            "`journald`: invalid value",
        ),
        (
            "[[publisher]]",
            "[metrics]\notlp_endpoint = \"127.0.0.1:4317\"\n[[publisher]]",
            22,
            "`otlp_endpoint`: ",
        ),
        (
            "[[publisher]]",
            "[metrics]\notlp_endpoint = \"https://c:4317\"\n[[publisher]]",
            22,
            "`otlp_endpoint`: only plain http is spoken; expected http://HOST:PORT",
        ),
        (
            "[[publisher]]",
            "[metrics]\notlp_interval_ms = 99\n[[publisher]]",
            22,
            "`otlp_interval_ms`: 99 is not in 100 to 3600000",
        ),
        (
            "[[publisher]]",
            "[metrics]\notlp_interval_ms = 100\n[[publisher]]",
            22,
            "`otlp_interval_ms` is set, but otlp_endpoint is not",
        ),
        ("id = 1\nrun_dir", "id = 0\nrun_dir", 2, "`id`: node ids start at 1"),
        (
            "run_dir",
            "admin = \"localhost:7400\"\nrun_dir",
            3,
            "`admin`: `localhost:7400` is neither",
        ),
        ("run_dir", "admin = \"127.0.0.1\"\nrun_dir", 3, "`admin`: `127.0.0.1` is neither"),
        (
            "run_dir",
            "admin = \"127.0.0.1:70000\"\nrun_dir",
            3,
            "`admin`: `127.0.0.1:70000` is neither",
        ),
        ("run_dir", "admin = 7400\nrun_dir", 3, "`admin`: invalid type"),
        ("run_dir", "admin = \"10.0.0.1:7400\"\nrun_dir", 3, "`admin`: 10.0.0.1 is not a loopback"),
        ("run_dir", "admin = \"0.0.0.0:7400\"\nrun_dir", 3, "`admin`: 0.0.0.0 is not a loopback"),
        ("run_dir", "admin = \"[::]:7400\"\nrun_dir", 3, "`admin`: :: is not a loopback"),
        ("run_dir", "insecure = \"yes\"\nrun_dir", 3, "`insecure`: invalid type"),
        ("run_dir", "catalogue_dir = \"\"\nrun_dir", 3, "`catalogue_dir`: the path is empty"),
        ("\"market\"", "\" market\"", 20, "`name`: a name neither begins nor ends"),
        ("\"market\"", "\"mar\\tket\"", 20, "`name`: a control character (U+0009) at byte 3"),
    ];
    for (from, to, line, reason) in cases {
        let found = problems(from, to);
        assert!(
            found.iter().any(|(at, text)| *at == line && text.starts_with(reason)),
            "{to}: expected line {line}: {reason}, found {found:?}"
        );
    }
}

#[test]
fn the_admin_address_is_on_loopback_unless_it_is_asked_for() {
    let with = |lines: &str| {
        let text = GOOD.replace("run_dir", &format!("{lines}\nrun_dir"));
        parse(&text).expect("sound").node.admin.map(|address| address.to_string())
    };
    assert_eq!(with("").as_deref(), Some("127.0.0.1:7400"));
    assert_eq!(with("admin = \"off\""), None);
    assert_eq!(with("admin = \"[::1]:0\"").as_deref(), Some("[::1]:0"));
    assert_eq!(with("admin = \"127.9.9.9:1\"").as_deref(), Some("127.9.9.9:1"));
    let open = with("admin = \"0.0.0.0:7400\"\ninsecure = true");
    assert_eq!(open.as_deref(), Some("0.0.0.0:7400"));
}

#[test]
fn the_least_max_bytes_is_said_and_is_enough() {
    let with = |bytes: u64| GOOD.replace("\"16 MiB\"", &bytes.to_string());
    let error = parse(&with(1 << 20)).expect_err("one segment").to_string();
    let least = error.rsplit_once('(').and_then(|(_, end)| end.split(' ').next()).expect(&error);
    let least: u64 = least.parse().expect("bytes");
    assert!(error.starts_with("test.toml:17: `max_bytes`: 1 segments; "), "{error}");
    parse(&with(least)).expect("enough");
    parse(&with(least - (1 << 20))).expect_err("one fewer");
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let text = GOOD.replace("core = 0", "core = 9").replace("\"16 MiB\"", "\"1 MiB\"");
    let error = parse(&text).expect_err("two problems");
    let lines: Vec<String> = error.to_string().lines().map(str::to_string).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("test.toml:10: `core`: "), "{lines:?}");
    assert!(lines[1].starts_with("test.toml:17: `max_bytes`: "), "{lines:?}");
}

const SECOND: &str = r#"[[shard]]
core = 1
ports = ["PORT"]
udp_port = 7501
idle = "spin"
[wal]"#;

#[test]
fn two_shards_share_neither_core_nor_queue() {
    let second = SECOND.replace("PORT", "clients");
    let found = problems("[wal]", &second.replace("core = 1", "core = 0"));
    assert!(found.iter().any(|(at, text)| *at == 15 && text.contains("shard 0 is on core 0")));
    assert!(found.iter().any(|(at, text)| *at == 16 && text.contains("one receive queue")));
    assert!(found.iter().any(|(_, text)| text.contains("a stream must name its own")));
}

#[test]
fn shards_may_share_a_socket_port_but_not_its_udp_port() {
    let text = GOOD
        .replace("\"memif\"", "\"socket\"")
        .replace("socket = \"clients.sock\"\n", "")
        .replace("\"market\"", "\"market\"\nshard = 1")
        .replace("[wal]", &SECOND.replace("PORT", "clients"));
    let config = parse(&text).expect("sound");
    assert_eq!(config.shards[1].ports, [0]);
    assert_eq!(config.remarks().len(), 0);
    let error = parse(&text.replace("7501", "7500")).expect_err("a clash").to_string();
    assert!(error.contains(":16: `udp_port`: shard 0 uses UDP port 7500"), "{error}");
}

#[test]
fn dpdk_devices_take_their_own_keys() {
    let device = |keys: &str| {
        GOOD.replace("\"memif\"", "\"dpdk\"").replace("socket = \"clients.sock\"", keys)
    };
    let tap = parse(&device("device = \"tap\"\ninterface = \"ms0\"")).expect("sound");
    assert_eq!(tap.ports[0].driver, Driver::Dpdk(Device::Tap { interface: "ms0".into() }));
    assert!(tap.uses_dpdk());
    assert_eq!(tap.dpdk, Dpdk { huge_pages: None, memory_mib: 64 + 12 });
    let memif = device("device = \"memif\"\nsocket = \"/run/m.sock\"\nrole = \"client\"\nid = 3");
    let memif = parse(&memif).expect("sound");
    let expected = Device::Memif { socket: "/run/m.sock".into(), server: false, id: 3 };
    assert_eq!(memif.ports[0].driver, Driver::Dpdk(expected));
    let kinds = [
        (
            "device = \"af_xdp\"\ninterface = \"eth1\"\nqueue = 3",
            Device::AfXdp { interface: "eth1".into(), queue: 3 },
        ),
        (
            "device = \"af_packet\"\ninterface = \"eth1\"",
            Device::AfPacket { interface: "eth1".into() },
        ),
        (
            "device = \"pcap\"\nrx_pcap = \"/tmp/in\"",
            Device::Pcap { rx: Some("/tmp/in".into()), tx: None },
        ),
        (
            "device = \"pci\"\naddress = \"0000:3b:00.0\"",
            Device::Pci { address: "0000:3b:00.0".into() },
        ),
    ];
    for (keys, expected) in kinds {
        let config = parse(&device(keys)).expect("sound");
        let mac = if keys.contains("pci") { None } else { Some([2, 0, 10, 0, 0, 1]) };
        assert_eq!(config.ports[0].mac, mac, "{keys}");
        assert_eq!(config.ports[0].driver, Driver::Dpdk(expected));
    }
    let wrong = [
        ("device = \"af_xdp\"", 4, "`interface`: an AF_XDP port needs"),
        ("device = \"af_xdp\"\ninterface = \"e\"\nqueue = -1", 10, "`queue`: invalid value"),
        ("device = \"af_xdp\"\ninterface = \"e\"\nframes = 5000", 10, "`frames`: 5000 is not in"),
        ("device = \"af_packet\"\ninterface = \"e\"\nqueue = 1", 10, "`queue` is only for"),
        ("device = \"pcap\"", 4, "`rx_pcap`: a pcap port needs"),
        ("device = \"pcap\"\nrx_pcap = \"/a,b\"", 9, "`rx_pcap`: a file's path"),
        ("device = \"pcap\"\nrx_pcap = \"/a\"\ntx_pcap = \"/a\"", 10, "`tx_pcap`: it is"),
        ("device = \"pci\"", 4, "`address`: a pci port needs"),
        ("device = \"pci\"\naddress = \"3b:00.0\"", 9, "`address`: a pci port needs"),
        ("device = \"tap\"\ninterface = \"e\"\naddress = \"x\"", 10, "`address` is only for"),
    ];
    for (keys, line, reason) in wrong {
        let error = parse(&device(keys)).expect_err(keys).to_string();
        assert!(error.contains(&format!("test.toml:{line}: {reason}")), "{keys}: {error}");
    }
    let small =
        device("device = \"pci\"\naddress = \"0000:3b:00.0\"") + "[dpdk]\nhuge_pages = false\n";
    let error = parse(&small).expect_err("no DMA from ordinary pages").to_string();
    assert!(error.contains("`huge_pages`: a port with device"), "{error}");
    let wrong = parse(&device("device = \"ring\"\ninterface = \"x\"")).expect_err("not for it");
    assert!(wrong.to_string().contains(":9: `interface` is only for"), "{wrong}");
    let af_xdp = parse(&device("device = \"af_xdp\"\ninterface = \"eth1\"")).expect("sound");
    assert_eq!(
        af_xdp.ports[0].driver,
        Driver::Dpdk(Device::AfXdp { interface: "eth1".into(), queue: 0 })
    );
    let wrong = parse(&device("device = \"tap\"\ninterface = \"a b\"")).expect_err("not a name");
    assert!(wrong.to_string().contains(":9: `interface`: "), "{wrong}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error = Config::load(Path::new("/nowhere/x.toml"), &[0]).expect_err("not there");
    assert!(error.to_string().starts_with("/nowhere/x.toml: cannot read"), "{error}");
}
