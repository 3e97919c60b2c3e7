//! Reading files of which the medium may have lost some places.

use std::io;
use std::os::unix::fs::FileExt;

/// Bytes that are given up where one of them cannot be read: a page, which is what the kernel reads at least.
const PIECE: u64 = 4096;

/// Fills `bytes` with the beginning of a file. What is behind its end stays as it was; what the medium cannot read (EIO) is
/// zeros. The first byte that could not be read, if there is one.
///
/// # Errors
/// What the system said, but for EIO.
pub(crate) fn read_around(file: &impl FileExt, bytes: &mut [u8]) -> io::Result<Option<u64>> {
    let (end, mut at, mut lost) = (bytes.len() as u64, 0, None);
    // Where a read failed, what follows is read up to the end of a piece.
    let mut most = end;
    while at < end {
        let to = end.min(at.saturating_add(most));
        let part = &mut bytes[at as usize..to as usize];
        match file.read_at(part, at) {
            Ok(0) => break,
            Ok(read) => (at, most) = (at + read as u64, end),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.raw_os_error() != Some(libc::EIO) => return Err(error),
            Err(_) if to - at > PIECE - at % PIECE => most = PIECE - at % PIECE,
            Err(_) => {
                part.fill(0);
                lost = lost.or(Some(at));
                (at, most) = (to, end);
            }
        }
    }
    Ok(lost)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes 7, of which some cannot be read.
    struct Worn {
        bytes: usize,
        bad: Vec<(u64, u64)>,
        error: i32,
    }

    impl FileExt for Worn {
        fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
            let end = (at + into.len() as u64).min(self.bytes as u64);
            let bad = self.bad.iter().find(|(from, to)| *from < end && *to > at);
            let sound = bad.map_or(end, |(from, _)| at.max(*from));
            if sound == at && at < end {
                return Err(io::Error::from_raw_os_error(self.error));
            }
            let read = sound.saturating_sub(at) as usize;
            into[..read].fill(7);
            Ok(read)
        }

        fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
            Err(io::ErrorKind::PermissionDenied.into())
        }
    }

    fn read(bytes: usize, bad: &[(u64, u64)]) -> (Option<u64>, Vec<u8>) {
        let worn = Worn { bytes, bad: bad.to_vec(), error: libc::EIO };
        let mut into = vec![9; 40_000];
        let lost = read_around(&worn, &mut into).expect("read");
        (lost, into)
    }

    #[test]
    fn what_cannot_be_read_is_zeros_and_the_rest_is_there() {
        let (lost, bytes) = read(30_000, &[]);
        assert_eq!(lost, None);
        assert!(bytes[..30_000].iter().all(|byte| *byte == 7));
        assert!(bytes[30_000..].iter().all(|byte| *byte == 9), "behind the end");
        let (lost, bytes) = read(40_000, &[(5_000, 5_512), (20_480, 28_672)]);
        assert_eq!(lost, Some(5_000));
        let zeros = |range: std::ops::Range<usize>| bytes[range].iter().all(|byte| *byte == 0);
        assert!(zeros(5_000..8_192) && zeros(20_480..28_672));
        assert_eq!(bytes.iter().filter(|byte| **byte == 7).count(), 40_000 - 3_192 - 8_192);
        let (lost, bytes) = read(40_000, &[(0, 40_000)]);
        assert_eq!((lost, bytes), (Some(0), vec![0; 40_000]));
    }

    #[test]
    fn other_errors_are_errors() {
        let worn = Worn { bytes: 100, bad: vec![(50, 60)], error: libc::ESTALE };
        let error = read_around(&worn, &mut [0; 100]).expect_err("refused");
        assert_eq!(error.raw_os_error(), Some(libc::ESTALE));
    }
}
