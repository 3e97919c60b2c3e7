//! The control socket's file: who may replace it, and what clients do without a proper server.

mod common;

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::time::Duration;

use common::{Served, connect, socket_path, until};
use mstream_nic::Port;
use mstream_nic::memif::{ClientConfig, ClientPort, Listener, ListenerConfig, MemifError};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept, bind,
    listen, recv, send, socket_with,
};

fn unix_socket(kind: SocketType) -> std::os::fd::OwnedFd {
    socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).expect("socket")
}

#[test]
fn the_file_is_the_owners_alone_and_goes_with_the_listener() {
    let (_dir, path) = socket_path();
    let (listener, _seed) = Listener::bind(&ListenerConfig::new(&path)).expect("bind");
    let found = fs::metadata(&path).expect("the file");
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o777, 0o600);
    drop(listener);
    assert!(!path.exists());
}

#[test]
fn a_stale_socket_file_is_replaced() {
    let (_dir, path) = socket_path();
    let dead = unix_socket(SocketType::SEQPACKET);
    bind(&dead, &SocketAddrUnix::new(&path).expect("a path")).expect("bind");
    drop(dead);
    assert!(path.exists(), "the file of the dead server is left behind");
    let (mut listener, seed) = Listener::bind(&ListenerConfig::new(&path)).expect("replaced");
    let _server = seed.open(4);
    connect(&mut listener, &ClientConfig::new(&path));
}

#[test]
fn a_live_server_is_not_replaced() {
    let served = Served::new(|_| {});
    let again = Listener::bind(&ListenerConfig::new(served.path()));
    assert!(matches!(again, Err(MemifError::InUse { .. })), "{again:?}");
    drop(served.client());
}

#[test]
fn a_live_socket_of_another_kind_is_not_replaced() {
    let (_dir, path) = socket_path();
    let other = unix_socket(SocketType::STREAM);
    bind(&other, &SocketAddrUnix::new(&path).expect("a path")).expect("bind");
    listen(&other, 1).expect("listen");
    let refused = Listener::bind(&ListenerConfig::new(&path));
    assert!(matches!(refused, Err(MemifError::InUse { .. })), "{refused:?}");
    assert!(path.exists());
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let (dir, path) = socket_path();
    fs::write(&path, "precious").expect("a file");
    let refused = Listener::bind(&ListenerConfig::new(&path));
    assert!(matches!(refused, Err(MemifError::NotASocket { .. })), "{refused:?}");
    assert_eq!(fs::read_to_string(&path).expect("still there"), "precious");
    let link = dir.path().join("link.sock");
    std::os::unix::fs::symlink(&path, &link).expect("a link");
    let refused = Listener::bind(&ListenerConfig::new(&link));
    assert!(matches!(refused, Err(MemifError::NotASocket { .. })), "{refused:?}");
}

#[test]
fn a_path_that_cannot_be_used_is_an_error_that_names_it() {
    let (dir, _) = socket_path();
    for path in [dir.path().join("no/such/directory"), dir.path().join("x".repeat(200))] {
        let refused = Listener::bind(&ListenerConfig::new(&path)).expect_err("not usable");
        assert!(refused.to_string().contains(path.to_str().expect("UTF-8")), "{refused}");
    }
}

#[test]
fn a_client_without_a_server_gives_up_in_time_and_says_why() {
    let (_dir, path) = socket_path();
    let config = ClientConfig::new(&path);
    let failed = ClientPort::connect(&config, Duration::from_millis(50)).expect_err("nobody there");
    assert!(matches!(failed, MemifError::TimedOut { .. }), "{failed}");
    let too_large = ClientConfig { ring_log2: 15, ..config };
    let failed = ClientPort::connect(&too_large, Duration::ZERO).expect_err("15 is too large");
    assert!(matches!(failed, MemifError::Setting { value: 15, .. }), "{failed}");
}

#[test]
fn a_client_refuses_servers_that_are_none() {
    let (_dir, path) = socket_path();
    let server = unix_socket(SocketType::SEQPACKET);
    bind(&server, &SocketAddrUnix::new(&path).expect("a path")).expect("bind");
    listen(&server, 8).expect("listen");
    let mut old = common::raw::message(common::raw::HELLO, &[0; 32]);
    old[34..38].copy_from_slice(&[0, 1, 0, 1]);
    let cases = [
        ("not 128 bytes", vec![7; 20]),
        ("unknown type", vec![0xff; 128]),
        ("memif 2.0", old),
        ("without a hello", common::raw::message(common::raw::CONNECTED, b"x")),
        ("unexpected message", common::raw::connect_message()),
    ];
    for (reason, first) in cases {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let client = accept(&server).expect("a client");
                send(&client, &first, SendFlags::NOSIGNAL).expect("sent");
                // Until the client has closed.
                while recv(&client, &mut [0; 256], RecvFlags::empty()).is_ok_and(|(len, _)| len > 0)
                {
                }
            });
            let config = ClientConfig::new(&path);
            let refused = ClientPort::connect(&config, Duration::from_secs(10));
            assert!(
                matches!(&refused, Err(MemifError::Refused { reason: said, .. }) if said.contains(reason)),
                "{reason:?} expected: {refused:?}"
            );
        });
    }
}

#[test]
fn a_client_notices_a_server_that_went_and_finds_its_successor() {
    let (_dir, path) = socket_path();
    let config = ClientConfig::new(&path);
    let (mut listener, _seed) = Listener::bind(&ListenerConfig::new(&path)).expect("bind");
    let mut client = connect(&mut listener, &config);
    assert!(client.is_connected());
    drop(listener);
    until("the client notices", || {
        client.maintain();
        !client.is_connected()
    });
    // What is sent meanwhile is dropped and counted.
    let frame = client.frame().expect("an empty frame");
    client.send(frame).expect("taken");
    assert_eq!((client.stats().tx_dropped, client.frames_out()), (1, 0));

    let (mut listener, seed) = Listener::bind(&ListenerConfig::new(&path)).expect("bind again");
    let mut server = seed.open(16);
    until("they are connected again", || {
        client.maintain();
        listener.poll(Duration::ZERO).expect("poll");
        client.is_connected()
    });
    let mut frame = client.frame().expect("an empty frame");
    frame.fill(b"still here");
    client.send(frame).expect("room");
    client.flush();
    let mut got = mstream_nic::FrameQueue::new();
    until("a frame arrives", || server.receive(&mut got, 1) == 1);
    assert_eq!(mstream_nic::Frame::bytes(&got[0]), b"still here");
}
