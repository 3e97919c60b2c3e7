//! Prints the messages of a stream, one a line: offset and payload.

use std::error::Error;
use std::io::{BufWriter, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use mstream_client::{Client, Event, From, Identity, SessionConfig, connect};
use mstream_nic::Port;

const USAGE: &str = "\
usage: print_stream [--memif SOCKET] [--from START] [--count N] ADDRESS:PORT STREAM

  ADDRESS:PORT    the shard's, such as 127.0.0.1:7500 or [::1]:7500
  --memif SOCKET  over the memif port with this socket instead of UDP
  --from START    earliest (default), latest, or an offset
  --count N       end after N messages";

/// Messages that the shard may send ahead.
const WINDOW: u64 = 1024;

struct Options {
    shard: SocketAddr,
    stream: String,
    memif: Option<String>,
    from: From,
    count: u64,
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let (mut memif, mut from, mut count) = (None, From::Earliest, u64::MAX);
    let mut places = Vec::new();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--memif" => memif = Some(value()?),
            "--from" => {
                from = match value()?.as_str() {
                    "earliest" => From::Earliest,
                    "latest" => From::Latest,
                    other => From::Offset(other.parse().map_err(|_| "--from is not a START")?),
                };
            }
            "--count" => count = value()?.parse().map_err(|_| "--count is a number")?,
            _ if arg.starts_with('-') => return Err(format!("unknown option {arg}")),
            _ => places.push(arg),
        }
    }
    let [address, stream] = places.as_slice() else {
        return Err("an address and a stream are wanted".into());
    };
    let shard = address.parse().map_err(|_| format!("{address} is no IP address and port"))?;
    Ok(Options { shard, stream: stream.clone(), memif, from, count })
}

fn main() -> ExitCode {
    let (code, reason) = match parse(std::env::args().skip(1)).map(|options| start(&options)) {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(error)) => (1, error.to_string()),
        Err(reason) => (2, format!("{reason}\n\n{USAGE}")),
    };
    eprintln!("print_stream: {reason}");
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
    let session = client.open_session(SessionConfig::new(Identity::Anonymous));
    client.subscribe(session, options.stream.as_str(), options.from, WINDOW);
    let (clock, mut out) = (Instant::now(), BufWriter::new(std::io::stdout().lock()));
    let (mut left, mut failure) = (options.count, None);
    let mut written = Ok(());
    while left > 0 && written.is_ok() && failure.is_none() {
        let came = client.poll(clock.elapsed().as_nanos() as u64, |event| match event {
            Event::Message { offset, message, .. } if left > 0 && written.is_ok() => {
                left -= 1;
                written = write!(out, "{offset} ")
                    .and_then(|()| out.write_all(message.payload))
                    .and_then(|()| out.write_all(b"\n"));
            }
            Event::Skipped { from, to, .. } => eprintln!("offsets {from}..{to} have no content"),
            Event::SessionLost { why, .. } => eprintln!("session lost ({why:?}): setting up again"),
            Event::SubscriptionStopped { why, .. } => failure = Some(format!("{why:?}")),
            Event::SessionFailed { code, .. } => failure = Some(code.text().to_owned()),
            _ => {}
        });
        if came == 0 && written.is_ok() {
            written = out.flush();
            std::thread::sleep(Duration::from_micros(50));
        }
    }
    client.close();
    written.and_then(|()| out.flush())?;
    failure.map_or(Ok(()), |reason| Err(reason.into()))
}
