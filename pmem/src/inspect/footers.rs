//! Footers compared with the segments that they are of.

use std::io;

use super::{Ended, SegmentReport, Slots};
use crate::footer::{FOOTER_HEADER_BYTES, Facts, Footer, build};
use crate::survey::records;

/// What stands beside a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FooterState {
    /// No footer of this segment: none at all, or one of another segment of the slot.
    None,
    /// It says what is there.
    Sound,
    /// It does not.
    Wrong {
        /// First byte of the footer that is not what it should be.
        at: u64,
        /// What it is, in words.
        what: String,
    },
}

impl FooterState {
    /// The word for it.
    pub fn name(&self) -> &'static str {
        match self {
            FooterState::None => "none",
            FooterState::Sound => "sound",
            FooterState::Wrong { .. } => "wrong",
        }
    }
}

/// Makes the footer of a segment that was examined again, and compares it with `found`, the bytes of its file.
///
/// # Errors
/// When the segment cannot be read.
pub fn check_footer<S: Slots>(
    source: &S,
    segment: &SegmentReport,
    found: &[u8],
) -> io::Result<FooterState> {
    let wrong = |at, what: String| Ok(FooterState::Wrong { at, what });
    let generation = segment.header.generation();
    let named = found.get(16..24).and_then(|bytes| bytes.first_chunk());
    if named != Some(&generation.to_le_bytes()) || segment.ended == Ended::Void || segment.recycled
    {
        return Ok(FooterState::None);
    }
    let footer = match Footer::new(found.to_vec()) {
        Ok(footer) => footer,
        Err(error) => return wrong(0, error.to_string()),
    };
    let end = segment.runs.last().map_or(0, |run| run.1);
    if !footer.fits(generation, end) {
        // A reboot took the segment's end since: a start makes another.
        return Ok(FooterState::None);
    }
    let facts = Facts {
        generation,
        sequence: segment.sequence,
        first_lsn: segment.header.base_lsn.get(),
        end,
    };
    let bytes = source.slot(segment.slot)?;
    let runs = segment.runs.iter();
    let made = build(&facts, runs.flat_map(|(start, end)| records(&bytes, *start, *end)));
    let differs = made.iter().zip(found).position(|(made, found)| made != found);
    let Some(at) = differs.or_else(|| (made.len() != found.len()).then_some(made.len())) else {
        return Ok(FooterState::Sound);
    };
    // The checks of the header differ with whatever differs behind it.
    let behind =
        made.iter().zip(found).skip(FOOTER_HEADER_BYTES).position(|(made, found)| made != found);
    let at = behind.map_or(at, |behind| FOOTER_HEADER_BYTES + behind);
    wrong(at as u64, format!("its {} are not the segment's", footer.part_at(at)))
}
