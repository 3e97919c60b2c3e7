//! Nothing is stored twice.

use super::{Check, ensure};
use crate::content::Content;

pub(crate) const NAME: &str = "stored-once";

pub(crate) fn stored(is_new: bool, content: &Content, offset: u64) -> Check {
    ensure!(NAME, is_new, "{content} was stored again at offset {offset}");
    Ok(())
}
