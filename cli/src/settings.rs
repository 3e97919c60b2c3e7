//! Which node is meant, by whatever says it: flags, environment, context.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use mstream_controlplane::config::ADMIN_PORT;

use crate::cli::Global;
use crate::context::{Context, Contexts};
use crate::failure::Failure;

/// What all commands go by.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// JSON instead of tables.
    pub(crate) json: bool,
    /// How long to wait for an answer.
    pub(crate) timeout: Duration,
    /// The admin API.
    pub(crate) admin: Endpoint,
    /// Address of the context's shard 0, and the control socket of its memif port.
    pub(crate) addr: Option<SocketAddr>,
    pub(crate) memif: Option<PathBuf>,
}

/// An admin API's address, and who named it.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// Host and port.
    pub(crate) address: String,
    /// Where the address comes from, in words; `None` when nobody named one.
    pub(crate) origin: Option<String>,
}

impl Endpoint {
    /// Checks an address: HOST:PORT, or the same behind http://.
    fn new(text: &str, origin: String) -> Result<Endpoint, Failure> {
        let address = admin_address(text).map_err(|why| {
            Failure::Usage(format!("{text} (from {origin}) is no admin address: {why}"))
        })?;
        Ok(Endpoint { address, origin: Some(origin) })
    }
}

/// Where a node on this host listens for its operators unless its configuration says otherwise.
fn default_admin() -> String {
    format!("127.0.0.1:{ADMIN_PORT}")
}

/// The host and port of an admin address that a person wrote.
pub(crate) fn admin_address(text: &str) -> Result<String, String> {
    if text.starts_with("https://") {
        return Err("nodes do not offer TLS; use HOST:PORT".into());
    }
    let address = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
    let has_port = port.is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    let printable = address.chars().all(|c| c.is_ascii_graphic() && !"/?#@".contains(c));
    match has_port && printable {
        true => Ok(address.into()),
        false => Err(format!("HOST:PORT is wanted, such as {}", default_admin())),
    }
}

impl Settings {
    /// Flags before environment before context; a context that a flag names goes before the environment.
    pub(crate) fn resolve(global: &Global) -> Result<Settings, Failure> {
        let from_env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let contexts = Contexts::load()?;
        let named = match &global.context {
            Some(name) => Some((name.clone(), true)),
            None => from_env("MSTREAM_CONTEXT").map(|name| (name, false)),
        };
        let by_flag = named.as_ref().is_some_and(|(_, by_flag)| *by_flag);
        let (name, context) = match named {
            Some((name, _)) => (Some(name.clone()), contexts.get(&name)?.clone()),
            None => match contexts.current()? {
                Some((name, context)) => (Some(name.to_owned()), context.clone()),
                None => (None, Context::default()),
            },
        };
        let variable = from_env("MSTREAM_ADMIN").filter(|_| !by_flag);
        let in_context = context.admin.as_deref().zip(name);
        let admin = match (&global.admin, variable, in_context) {
            (Some(text), _, _) => Endpoint::new(text, "--admin".into())?,
            (None, Some(text), _) => Endpoint::new(&text, "MSTREAM_ADMIN".into())?,
            (None, None, Some((text, name))) => Endpoint::new(text, format!("context {name}"))?,
            (None, None, None) => Endpoint { address: default_admin(), origin: None },
        };
        Ok(Settings {
            json: global.json,
            timeout: global.timeout,
            admin,
            addr: context.addr,
            memif: context.memif,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admin_addresses_are_a_host_and_a_port() {
        for right in ["127.0.0.1:7600", "http://127.0.0.1:7600/", "http://127.0.0.1:7600"] {
            assert_eq!(admin_address(right).as_deref(), Ok("127.0.0.1:7600"));
        }
        assert_eq!(admin_address("[::1]:1").as_deref(), Ok("[::1]:1"));
        for wrong in
            ["", "host", "host:", ":1", "host:0", "host:65536", "https://host:1", "a b:1", "a/b:1"]
        {
            assert!(admin_address(wrong).is_err(), "{wrong}");
        }
    }
}
