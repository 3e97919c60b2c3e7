//! The admin API's address, and where the catalogue is kept.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use toml::Spanned;

use super::problem::Collector;

/// TCP port of the admin API.
pub const PORT: u16 = 7400;
/// The word for no admin API.
const OFF: &str = "off";

/// The address, unless it is "off". One that others can reach must be asked for twice.
pub(super) fn address(
    raw: Option<Spanned<String>>,
    insecure: bool,
    problems: &mut Collector<'_>,
) -> Option<SocketAddr> {
    let Some(raw) = raw else {
        return Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT));
    };
    if raw.get_ref() == OFF {
        return None;
    }
    let Ok(address) = raw.get_ref().parse::<SocketAddr>() else {
        let reason = format!(
            "`admin`: `{}` is neither an address with a port, such as \"127.0.0.1:{PORT}\" or \
             \"[::1]:{PORT}\", nor \"{OFF}\"",
            raw.get_ref()
        );
        problems.add(raw.span(), reason);
        return None;
    };
    if !address.ip().is_loopback() && !insecure {
        let reason = format!(
            "`admin`: {} is not a loopback address, and the admin API has neither encryption nor \
             passwords: whoever reaches it may delete streams. Set `insecure = true` in [node] if that \
             is what you want",
            address.ip()
        );
        problems.add(raw.span(), reason);
    }
    Some(address)
}

pub(super) fn catalogue_dir(
    raw: Option<Spanned<PathBuf>>,
    problems: &mut Collector<'_>,
) -> Option<PathBuf> {
    let raw = raw?;
    if raw.get_ref().as_os_str().is_empty() {
        problems.add(raw.span(), "`catalogue_dir`: the path is empty");
    }
    Some(raw.into_inner())
}
