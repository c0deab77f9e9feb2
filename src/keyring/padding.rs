//! Fills values up, so that their length does not tell what is in them.

use secrecy::zeroize::Zeroize as _;

/// The length of the value is in the last bytes.
const LENGTH_LEN: usize = size_of::<u32>();

/// The value, filled up to `least` or to the next power of two, in a vector that has room for `more`
/// bytes. `None` if it is longer than four bytes can say.
pub(super) fn padded(plain: &[u8], least: usize, more: usize) -> Option<Vec<u8>> {
    let length = u32::try_from(plain.len()).ok()?;
    let whole = plain.len().checked_add(LENGTH_LEN)?.checked_next_power_of_two()?.max(least);
    // With room for everything: a vector that grows leaves the plain text behind.
    let mut padded = Vec::with_capacity(whole.checked_add(more)?);
    padded.extend_from_slice(plain);
    padded.resize(whole.checked_sub(LENGTH_LEN)?, 0);
    padded.extend_from_slice(&length.to_be_bytes());
    Some(padded)
}

/// Makes of what [`padded`] has made the value again. `None` if it is nothing of the kind.
pub(super) fn unpad(padded: &mut Vec<u8>) -> Option<()> {
    let (filled, length) = padded.split_last_chunk::<LENGTH_LEN>().map(|(f, l)| (f.len(), *l))?;
    let length = usize::try_from(u32::from_be_bytes(length)).ok().filter(|l| *l <= filled)?;
    padded.get_mut(length..)?.zeroize();
    padded.truncate(length);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_filled_up_is_the_same_afterwards() {
        for length in [0, 1, 251, 252, 253, 508, 509, 5000] {
            let plain = vec![7; length];
            let mut filled = padded(&plain, 256, 16).expect("short enough");
            assert!(filled.len().is_power_of_two() && filled.len() >= 256, "{length}");
            assert!(filled.capacity() >= filled.len() + 16, "{length}");
            assert_eq!(unpad(&mut filled), Some(()));
            assert_eq!(filled, plain);
        }
    }

    #[test]
    fn what_was_not_filled_up_is_no_value() {
        for mut odd in [vec![], vec![0; 3], vec![0, 0, 0, 1], vec![0xff; 256]] {
            assert_eq!(unpad(&mut odd), None);
        }
    }
}
