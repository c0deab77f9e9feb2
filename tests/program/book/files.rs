//! The files that a configuration names.

use std::fs;

use tempfile::TempDir;
use toml::{Table, Value};

/// The key set of an issuer, with one key, whose private part nobody needs.
const JWKS: &str = "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\
                    \"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}]}";

/// All of a key but the first byte, in hex.
const KEY_PART: &str = "4ab6f248e63ffc9aaa69487cdc82353afbff70ec2e02c3e232607da938c9fb";

/// Makes the files that a configuration names, each with what the bridge expects in it. Gives the text
/// with absolute paths put into the folder.
pub(super) fn make(folder: &TempDir, tree: &Table, text: &str) -> String {
    let own = rcgen::generate_simple_self_signed(["gateway.example".to_owned()]);
    let own = own.expect("generated");
    let (certificate, key) = (own.cert.pem(), own.signing_key.serialize_pem());
    let mut text = text.to_owned();
    for (number, (name, path)) in named(tree).into_iter().enumerate() {
        // No two are alike.
        let secret = format!("{number:02x}{KEY_PART}");
        let content = match name.as_str() {
            "certificate_file"
            | "client_certificate_file"
            | "ca_file"
            | "client_ca_file"
            | "jwks_ca_file"
            | "pinned_certificate_file" => &certificate,
            "key_file" | "client_key_file" => &key,
            "jwks_file" => JWKS,
            "encryption_key_files" => &secret,
            "credentials_file" => "[agents.1001]\npassword = \"secret\"\n",
            "headers_file" => "authorization: Bearer secret\n",
            _ => "secret\n",
        };
        let inside = folder.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(inside.parent().expect("a folder")).expect("made");
        // The file of sessions is the bridge's own to make.
        if name != "file" {
            fs::write(&inside, content).expect("written");
        }
        text = text.replace(&format!("\"{path}\""), &format!("\"{}\"", inside.display()));
    }
    text
}

/// The keys that name files, with the paths.
fn named(tree: &Table) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (name, value) in tree {
        let is_file = name == "file" || name.ends_with("_file") || name.ends_with("_files");
        match value {
            Value::Table(table) => found.extend(named(table)),
            Value::String(path) if is_file => found.push((name.clone(), path.clone())),
            Value::Array(paths) if is_file => {
                let paths = paths.iter().filter_map(Value::as_str);
                found.extend(paths.map(|path| (name.clone(), path.to_owned())));
            }
            _ => {}
        }
    }
    found
}
