//! What a name may be.

/// Longest name of a stream or publisher, in bytes.
pub const MAX_NAME_BYTES: usize = 255;

/// Why a name cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It is empty or too long.
    #[error("{bytes} bytes; a name has 1 to {MAX_NAME_BYTES}")]
    Length {
        /// Its bytes.
        bytes: usize,
    },
    /// It has a character that no terminal or file should be sent.
    #[error("a control character (U+{:04X}) at byte {at}", u32::from(*character))]
    Control {
        /// Which one.
        character: char,
        /// Where in the name.
        at: usize,
    },
    /// It begins or ends with white space.
    #[error("a name neither begins nor ends with a space")]
    Space,
}

/// Checks the name of a stream or publisher.
///
/// # Errors
/// What is wrong with it first.
pub fn check_name(name: &str) -> Result<(), NameError> {
    if !(1..=MAX_NAME_BYTES).contains(&name.len()) {
        return Err(NameError::Length { bytes: name.len() });
    }
    if let Some((at, character)) = name.char_indices().find(|(_, c)| c.is_control()) {
        return Err(NameError::Control { character, at });
    }
    match name.trim() == name {
        true => Ok(()),
        false => Err(NameError::Space),
    }
}
