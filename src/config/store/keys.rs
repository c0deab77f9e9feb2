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
pub(super) const KEYS_REMEDY: &str = "give the path of a file with 32 random bytes, as they are or in hex or \
                           base64, such as \"openssl rand -hex 32\" prints";

/// Reads the encryption keys that `store.encryption_key_files` names.
pub(super) fn keys(section: &Section<'_>) -> Vec<EncryptionKey> {
    let keys = section.paths("encryption_key_files", KEYS_MAX, |path| {
        let (bytes, metadata) = files::read(path, SECRET_MAX)
            .map_err(|error| files::unreadable(path, &error, KEYS_REMEDY))?;
        files::warn_of_readers(section, "encryption_key_files", path, &metadata);
        key(&bytes).ok_or_else(|| {
            let shown = quote(&path.to_string_lossy());
            Problem::new(format!("{shown} does not hold a key"), KEYS_REMEDY)
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
fn key(bytes: &[u8]) -> Option<EncryptionKey> {
    let text = || {
        let text = std::str::from_utf8(bytes).ok()?.trim();
        let bytes = if text.len() == 2 * KEY_LEN { unhex(text) } else { base64(text) };
        EncryptionKey::from_slice(&Zeroizing::new(bytes?))
    };
    EncryptionKey::from_slice(bytes).or_else(text)
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

    #[test]
    fn keys_are_read_in_every_form() {
        let same = EncryptionKey::new([0xfb; KEY_LEN]);
        let hex = "fb".repeat(KEY_LEN);
        let base64 = "+/v7".repeat(10) + "+/s=";
        let url_safe = base64.replace('+', "-").replace('/', "_").replace('=', "");
        assert_eq!(key(&[0xfb; KEY_LEN]), Some(same.clone()));
        for text in [hex.clone(), hex.to_uppercase() + "\n", base64, url_safe + "\r\n"] {
            assert_eq!(key(text.as_bytes()), Some(same.clone()), "{text}");
        }
        let short = "fb".repeat(31);
        for bad in ["", "fb", &short, &"zz".repeat(KEY_LEN), &(hex + "00"), &"é".repeat(17)] {
            assert_eq!(key(bad.as_bytes()), None, "{bad}");
        }
    }
}
