use std::collections::HashSet;

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::general_purpose::{GeneralPurpose, NO_PAD},
};

use secrecy::zeroize::Zeroizing;

use super::SECRET_MAX;
use crate::{
    config::{
        error::{Problem, quote},
        files,
        reader::Section,
    },
    hex::unhex,
    keyring::{EncryptionKey, KEY_LEN},
};

/// Some encoders leave unused bits in the last digit that are not zero.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, NO_PAD.with_decode_allow_trailing_bits(true));
/// The most keys that may be given. A key change needs two; more are old keys that nobody removed.
const KEYS_MAX: usize = 8;
/// The fewest different bytes of a key. Of 10^15 random keys, one has fewer; words and digits that are
/// repeated have.
const DIFFERENT_MIN: usize = 16;
pub(super) const KEYS_REMEDY: &str = "give the path of a file with 32 random bytes, as they are or in hex or \
                           base64, such as \"openssl rand -hex 32\" prints";

/// Reads the encryption keys that `store.encryption_key_files` names.
pub(super) fn keys(section: &Section<'_>) -> Vec<EncryptionKey> {
    let keys = section.paths("encryption_key_files", KEYS_MAX, |path| {
        let (bytes, metadata) = files::read(path, SECRET_MAX)
            .map_err(|error| files::unreadable(path, &error, KEYS_REMEDY))?;
        files::warn_of_readers(section, "encryption_key_files", path, &metadata);
        key(&bytes).map_err(|problem| {
            let shown = quote(&path.to_string_lossy());
            Problem::new(format!("{shown} does not hold a key: {problem}"), KEYS_REMEDY)
        })
    });
    let keys = keys.unwrap_or_default();
    let mut seen = HashSet::new();
    if keys.iter().any(|key| !seen.insert(key.id())) {
        let wrong = Problem::new("names files with the same key", "give each key once");
        section.contradiction(&["encryption_key_files"], wrong);
    }
    keys
}

/// Reads a key as raw bytes, hex or base64. The length tells which form it is: no two have the same.
/// Fails with what is wrong, which shows nothing of the key.
fn key(bytes: &[u8]) -> Result<EncryptionKey, String> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| is_printable(text));
    let Some(text) = text.map(str::trim) else { return random(bytes) };
    let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let decoded = if is_hex { unhex(text) } else { base64(text) }.map(Zeroizing::new);
    match decoded {
        Some(bytes) if bytes.len() == KEY_LEN => random(&bytes),
        _ if text.is_empty() => Err("it is empty".to_owned()),
        _ if is_hex => Err(format!("it has {} hex digits, not {}", text.len(), 2 * KEY_LEN)),
        _ => Err(format!(
            "it is a text of {} bytes, and neither {} hex digits nor {KEY_LEN} bytes in base64",
            text.len(),
            2 * KEY_LEN
        )),
    }
}

/// The key of these bytes, unless it is plain that nobody has drawn them at random.
fn random(bytes: &[u8]) -> Result<EncryptionKey, String> {
    let key = EncryptionKey::from_slice(bytes)
        .ok_or_else(|| format!("it has {} bytes, not {KEY_LEN}", bytes.len()))?;
    let different = bytes.iter().collect::<HashSet<_>>().len();
    if different < DIFFERENT_MIN {
        let few = format!("only {different} of its {KEY_LEN} bytes are different");
        return Err(format!("{few}, so it is not random"));
    }
    let mut steps = bytes.windows(2).map(|pair| match pair {
        [one, next] => next.wrapping_sub(*one),
        _ => 0,
    });
    let first = steps.next();
    if steps.all(|step| Some(step) == first) {
        return Err("its bytes are a sequence, so it is not random".to_owned());
    }
    Ok(key)
}

/// Whether somebody may have typed it. Of 10^13 random keys, one is such a text.
fn is_printable(text: &str) -> bool {
    text.chars().all(|c| !c.is_control() || c.is_ascii_whitespace())
}

/// Decodes base64, in the standard or the URL-safe alphabet, with or without padding.
fn base64(text: &str) -> Option<Vec<u8>> {
    let standard = text.trim_end_matches('=').bytes().map(|digit| match digit {
        b'-' => b'+',
        b'_' => b'/',
        digit => digit,
    });
    let standard: Zeroizing<Vec<u8>> = Zeroizing::new(standard.collect());
    BASE64.decode(&*standard).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "8f4ab6f248e63ffc9aaa69487cdc82353afbff70ec2e02c3e232607da938c9fb";

    #[test]
    fn keys_are_read_in_every_form() {
        let bytes = unhex(HEX).expect("digits");
        let same = EncryptionKey::from_slice(&bytes).expect("a key");
        let base64 = "j0q28kjmP/yaqmlIfNyCNTr7/3DsLgLD4jJgfak4yfs=".to_owned();
        let url_safe = base64.replace('+', "-").replace('/', "_").replace('=', "");
        assert_eq!(key(&bytes), Ok(same.clone()));
        for text in [HEX.to_owned(), HEX.to_uppercase() + "\n", base64, url_safe + "\r\n"] {
            assert_eq!(key(text.as_bytes()), Ok(same.clone()), "{text}");
        }
    }

    #[track_caller]
    fn check(bad: impl AsRef<[u8]>, problem: &str) {
        let found = key(bad.as_ref()).expect_err("no key");
        assert!(found.contains(problem), "{found}");
    }

    #[test]
    fn what_is_no_key_is_told_by_its_length() {
        check("", "is empty");
        check("fb", "has 2 hex digits, not 64");
        check(&HEX[..32], "has 32 hex digits, not 64");
        check(&HEX[..62], "has 62 hex digits, not 64");
        check(HEX.to_owned() + "00", "has 66 hex digits, not 64");
        check("zz".repeat(KEY_LEN), "a text of 64 bytes");
        check("é".repeat(17), "a text of 34 bytes");
        check("(64 hex digits, as \"openssl rand -hex 32\" prints)", "a text of 49 bytes");
        check([0x80; 31], "has 31 bytes, not 32");
        check([0x80; 33], "has 33 bytes, not 32");
    }

    #[test]
    fn what_nobody_has_drawn_at_random_is_no_key() {
        check([0; KEY_LEN], "only 1 of its 32 bytes");
        check([0xfb; KEY_LEN], "only 1 of its 32 bytes");
        check("0".repeat(64), "only 1 of its 32 bytes");
        check("deadbeef".repeat(8), "only 4 of its 32 bytes");
        check("0123456789abcdef".repeat(4), "only 8 of its 32 bytes");
        check("A".repeat(43) + "=", "only 1 of its 32 bytes");
        check("changeme".repeat(4), "a text of 32 bytes");
        check("correct horse battery staple, or", "a text of 32 bytes");
        check("correct horse battery staple or\n", "a text of 31 bytes");
        let sequence: Vec<u8> = (0x80..0xa0).collect();
        check(&sequence, "a sequence");
        check(crate::hex::hex(&(0..32).collect::<Vec<u8>>()), "a sequence");
    }
}
