//! Publishes each line of standard input as a message, and prints what the shard acknowledges.

use std::error::Error;
use std::io::{BufRead, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use mstream_client::{Client, Event, Identity, PublishError, SessionConfig, connect};
use mstream_nic::Port;

const USAGE: &str = "\
usage: publish_lines [--memif SOCKET] [--publisher ID] ADDRESS:PORT STREAM < LINES

  ADDRESS:PORT    the shard's, such as 127.0.0.1:7500 or [::1]:7500
  --memif SOCKET  over the memif port with this socket instead of UDP
  --publisher ID  claim a new life of this configured publisher; without it, publish anonymously";

struct Options {
    shard: SocketAddr,
    stream: String,
    memif: Option<String>,
    identity: Identity,
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let (mut memif, mut identity, mut places) = (None, Identity::Anonymous, Vec::new());
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--memif" => memif = Some(value()?),
            "--publisher" => {
                identity =
                    value()?.parse().map(Identity::Publisher).map_err(|_| "ID is a number")?;
            }
            _ if arg.starts_with('-') => return Err(format!("unknown option {arg}")),
            _ => places.push(arg),
        }
    }
    let [address, stream] = places.as_slice() else {
        return Err("an address and a stream are wanted".into());
    };
    let shard = address.parse().map_err(|_| format!("{address} is no IP address and port"))?;
    Ok(Options { shard, stream: stream.clone(), memif, identity })
}

fn main() -> ExitCode {
    let (code, reason) = match parse(std::env::args().skip(1)).map(|options| start(&options)) {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(error)) => (1, error.to_string()),
        Err(reason) => (2, format!("{reason}\n\n{USAGE}")),
    };
    eprintln!("publish_lines: {reason}");
    ExitCode::from(code)
}

fn start(options: &Options) -> Result<(), Box<dyn Error>> {
    let patience = Duration::from_secs(10);
    match &options.memif {
        None => run(connect::udp(options.shard)?, options),
        Some(socket) => run(connect::memif(socket.as_ref(), options.shard, patience)?, options),
    }
}

fn run<P: Port>(mut client: Client<P>, options: &Options) -> Result<(), Box<dyn Error>> {
    let session = client.open_session(SessionConfig::new(options.identity));
    let publication = client.open_publication(session, &*options.stream, &Default::default());
    let (lines, clock) = (read_lines(), Instant::now());
    let (mut waiting, mut failure) = (None, None::<Box<dyn Error>>);
    loop {
        let came = client.poll(clock.elapsed().as_nanos() as u64, |event| match event {
            Event::Acknowledged { sequence, offset, .. } => {
                // Lines are published whether anybody reads this or not.
                let _ = writeln!(std::io::stdout(), "acknowledged {sequence}, offset {offset}");
            }
            Event::SessionLost { why, .. } => eprintln!("session lost ({why:?}): setting up again"),
            // None of these passes, and none must be passed over.
            Event::Refused { .. }
            | Event::OutcomeUnknown { .. }
            | Event::PublicationEnded { .. }
            | Event::SessionFailed { .. } => failure = Some(format!("{event:?}").into()),
            _ => {}
        });
        failure.take().map_or(Ok(()), Err)?;
        let ended = loop {
            if waiting.is_none() {
                waiting = match lines.try_recv() {
                    Ok(line) => Some(line?),
                    Err(nothing) => break nothing == TryRecvError::Disconnected,
                };
            }
            match client.publish(publication, b"", b"", waiting.as_deref().unwrap_or_default()) {
                Ok(_) => waiting = None,
                Err(PublishError::BackPressured | PublishError::NotConnected) => break false,
                Err(error) => return Err(error.into()),
            }
        };
        client.flush();
        let (acknowledged, next) = client.sequences(publication);
        if ended && acknowledged + 1 == next {
            client.close();
            return Ok(());
        }
        if came == 0 {
            std::thread::sleep(Duration::from_micros(50));
        }
    }
}

/// Reads in a thread of its own, because the client must be polled while there is no input.
fn read_lines() -> Receiver<std::io::Result<Vec<u8>>> {
    let (sender, receiver) = sync_channel(1024);
    std::thread::spawn(move || {
        let mut lines = std::io::stdin().lock().split(b'\n');
        while lines.next().is_some_and(|line| sender.send(line).is_ok()) {}
    });
    receiver
}
