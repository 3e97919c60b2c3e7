//! An appliance in one network namespace and its clients in another, joined by a veth pair.
//!
//! The test's process runs again inside the clients' namespace, where it can use ordinary sockets, `ping` and
//! the like; the appliance is started in the other one. Both namespaces, and with them all interfaces, are
//! removed by the outer process, also when the inner one failed.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use super::{Node, Setting};

/// Set in the process that runs in the clients' namespace: the appliance's namespace.
const INSIDE: &str = "MSTREAM_TEST_APPLIANCE";
/// The veth's end in the appliance's namespace.
pub const APPLIANCE_END: &str = "lan0";
/// The veth's end in the clients' namespace.
pub const CLIENT_END: &str = "lan1";
/// The clients' address.
pub const CLIENT: &str = "10.77.0.2";
/// The clients' interface in the VLAN.
pub const TAGGED_END: &str = "lan1.7";

/// An appliance's addresses and where clients reach it.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub ip: Ipv4Addr,
    pub ip6: Ipv6Addr,
    /// The clients' interface.
    pub from: &'static str,
}

/// Frames without tags.
pub const UNTAGGED: Place = Place {
    ip: Ipv4Addr::new(10, 77, 0, 1),
    ip6: Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1),
    from: CLIENT_END,
};
/// Frames in VLAN 7.
pub const TAGGED: Place = Place {
    ip: Ipv4Addr::new(10, 77, 7, 1),
    ip6: Ipv6Addr::new(0xfd77, 7, 0, 0, 0, 0, 0, 1),
    from: TAGGED_END,
};

impl Place {
    /// The MAC address that a port without one of its own takes from its IP address.
    pub fn mac(&self) -> [u8; 6] {
        let [a, b, c, d] = self.ip.octets();
        [2, 0, a, b, c, d]
    }
}

/// Network namespaces of this process; removed when dropped.
struct Namespaces {
    names: [String; 2],
}

impl Namespaces {
    fn new(tag: &str) -> Namespaces {
        let id = std::process::id();
        let namespaces = Namespaces { names: [format!("ms{id}{tag}a"), format!("ms{id}{tag}c")] };
        let [appliance, clients] = &namespaces.names;
        for name in &namespaces.names {
            ip(&["netns", "add", name]);
            // The kernel's own chatter would only be in the way of counts.
            let quiet = "echo 1 > /proc/sys/net/ipv6/conf/default/addr_gen_mode";
            ip(&["netns", "exec", name, "sh", "-c", quiet]);
        }
        let pair = ["type", "veth", "peer", "name", CLIENT_END, "netns", clients];
        ip(&[&["-n", appliance, "link", "add", APPLIANCE_END], &pair[..]].concat());
        ip(&["-n", appliance, "link", "set", APPLIANCE_END, "up"]);
        ip(&["-n", clients, "link", "set", "lo", "up"]);
        // Not every kernel has such interfaces.
        let vlan = ["link", CLIENT_END, "name", TAGGED_END, "type", "vlan", "id", "7"];
        let _ = Command::new("ip").args(["-n", clients, "link", "add"]).args(vlan).output();
        set_up(&["-n", clients], CLIENT_END, 0);
        namespaces
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in &self.names {
            // The other one is to go too.
            let _ = Command::new("ip").args(["netns", "delete", name]).output();
        }
    }
}

/// Makes an interface of the clients ready, in their network of that number.
fn set_up(clients: &[&str], interface: &str, network: u8) {
    ip(&[clients, &["link", "set", interface, "up"]].concat());
    let address = format!("10.77.{network}.2/24");
    ip(&[clients, &["address", "add", &address, "dev", interface]].concat());
    let address = format!("fd77:{network}::2/64");
    ip(&[clients, &["address", "add", &address, "dev", interface, "nodad"]].concat());
}

/// The clients' interface in the VLAN; gone when dropped, if it is ours.
pub struct Vlan {
    /// The program that tags and untags where the kernel does not.
    stand_in: Option<Child>,
}

impl Drop for Vlan {
    fn drop(&mut self) {
        if let Some(program) = &mut self.stand_in {
            let _ = program.kill();
            let _ = program.wait();
        }
    }
}

/// The two namespaces as the process in the clients' one sees them.
pub struct Lan {
    appliance: String,
}

/// Runs this test again in the clients' namespace, or says that it is skipped; `Some` in there.
pub fn lan(test: &str, tag: &str) -> Option<Lan> {
    if let Ok(appliance) = std::env::var(INSIDE) {
        // Without this the kernel leaves checksums and tags to a device that does not exist: what the
        // appliance gets would be wrong.
        succeeded("ethtool", &["-K", CLIENT_END, "tx", "off", "txvlan", "off"]);
        return Some(Lan { appliance });
    }
    if let Some(reason) = obstacle() {
        eprintln!("SKIP {test}: {reason}");
        return None;
    }
    let namespaces = Namespaces::new(tag);
    let [appliance, clients] = &namespaces.names;
    let status = Command::new("ip")
        .args(["netns", "exec", clients])
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, appliance)
        .status()
        .expect("it runs");
    drop(namespaces);
    assert!(status.success(), "it failed in its own network");
    None
}

/// Why there can be no such network here.
fn obstacle() -> Option<String> {
    let permitted = Command::new("unshare").args(["--net", "true"]).output();
    if !permitted.is_ok_and(|output| output.status.success()) {
        return Some("making a network namespace is not permitted".to_string());
    }
    let tools = [
        ("ip", "iproute2"),
        ("ethtool", "ethtool"),
        ("ping", "iputils-ping"),
        ("arping", "arping"),
        ("python3", "python3"),
    ];
    let missing = |tool: &str| {
        Command::new(tool).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err()
    };
    let (tool, package) = tools.into_iter().find(|(tool, _)| missing(tool))?;
    Some(format!("there is no {tool} (apt-get install {package})"))
}

impl Lan {
    /// Puts clients into the VLAN: by the kernel's interface, or by a stand-in where it has none.
    ///
    /// # Errors
    /// Why that is not possible.
    pub fn vlan(&self) -> Result<Vlan, String> {
        let links = ip(&["-oneline", "link"]).stdout;
        if String::from_utf8_lossy(&links).contains(TAGGED_END) {
            set_up(&[], TAGGED_END, 7);
            return Ok(Vlan { stand_in: None });
        }
        if !Path::new("/dev/net/tun").exists() {
            return Err("the kernel has no VLAN interfaces, and there is no /dev/net/tun".into());
        }
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/vlan.py");
        let mut child = Command::new("python3")
            .args([program, CLIENT_END, "7", TAGGED_END])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 runs");
        let mut said = String::new();
        let stdout = child.stdout.take().expect("piped");
        let vlan = Vlan { stand_in: Some(child) };
        BufReader::new(stdout).read_line(&mut said).expect("it says that it is ready");
        assert_eq!(said, "ready\n");
        set_up(&[], TAGGED_END, 7);
        Ok(vlan)
    }

    /// Runs `ip` in the appliance's namespace.
    pub fn ip(&self, args: &[&str]) -> Output {
        ip(&[&["-n", &self.appliance], args].concat())
    }

    /// Starts mstreamd in the appliance's namespace and waits until it is ready.
    pub fn start(&self, setting: &Setting) -> Node {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.appliance, env!("CARGO_BIN_EXE_mstreamd")]);
        let mut node = Node::spawn(command.arg("--config").arg(setting.file()));
        node.wait_ready();
        node
    }
}

/// Runs `ip`, which must succeed.
pub fn ip(args: &[&str]) -> Output {
    succeeded("ip", args)
}

/// Runs a program, which must succeed.
pub fn succeeded(program: &str, args: &[&str]) -> Output {
    let output = Command::new(program).args(args).output().expect("it runs");
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
    output
}

/// Runs a Python program, which must succeed, with lines for its standard input; what it prints.
pub fn python(args: &[&str], input: &str) -> String {
    let mut child = Command::new("python3")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 runs");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input.as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// Sends a raw frame from the clients' end.
pub fn send_frame(frame: &[u8]) {
    let send = "import socket, sys\n\
                s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)\n\
                s.bind((sys.argv[1], 0))\n\
                s.send(bytes.fromhex(sys.stdin.read()))";
    let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
    python(&["-c", send, CLIENT_END], &hex);
}
