//! A publisher's messages stand in a stream in the order in which it published them, without one missing between, and no
//! older life publishes behind a newer one.

use super::{Check, ensure};
use crate::content::Content;

pub(crate) const NAME: &str = "order-per-publisher";

pub(crate) fn follows(content: &Content, offset: u64, serial: u64, life: u32) -> Check {
    ensure!(
        NAME,
        content.serial == serial,
        "{content} was stored at offset {offset} where serial {serial} belongs: lost, repeated or reordered"
    );
    ensure!(
        NAME,
        content.life >= life,
        "{content} was stored at offset {offset} though life {life} had published"
    );
    Ok(())
}

/// Only a newer life fences.
pub(crate) fn fenced(actor: u16, life: u32, newest: u32) -> Check {
    ensure!(NAME, newest > life, "publisher {actor}/{life} was fenced and is the newest life");
    Ok(())
}
