//! What the command has written, and what to do with it, in lines that fit a terminal.

use std::{fmt, path::Path};

use super::{
    super::text::{command, wrapped},
    configuration,
    files::DevFile,
    path,
};

/// What is printed in the end.
pub(super) struct NextSteps<'a> {
    pub(super) folder: &'a Path,
    pub(super) files: &'a [DevFile],
}

/// The configuration that the user makes.
const COMBINED: &str = "with-callers.toml";

impl fmt::Display for NextSteps<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Written to {}:", self.folder.display())?;
        for DevFile { name, about, .. } in self.files {
            writeln!(f, "{}", wrapped(&format!("  {name:<17}"), about, 19))?;
        }
        let valid = "The certificates are valid for 30 days, and the token for 24 hours. They are for \
                     trying out only.";
        writeln!(f, "\n{}", wrapped("", valid, 0))?;

        writeln!(f, "\nAdd the sections to a configuration that has a tenant, and serve:\n")?;
        let snippet = self.file(configuration::FILE);
        writeln!(f, "{}", command(["cat", "bridge.toml", &snippet, &format!("> {COMBINED}")]))?;
        for name in ["check-config", "serve"] {
            writeln!(
                f,
                "{}",
                command(["ccgateway-bridge", name, &format!("--config {COMBINED}")])
            )?;
        }

        writeln!(f, "\nIn another terminal call it with the certificate, then with the token:\n")?;
        let option = |option: &str, name| format!("--{option} {}", self.file(name));
        let [certificate, key] = [option("certificate", "client.pem"), option("key", "client.key")];
        let (ca, token) = (option("ca", "ca.pem"), option("token-file", "token.jwt"));
        let call = ["ccgateway-bridge", "call", "get-state", "--agent 1001", &ca];
        writeln!(f, "{}", command(call.into_iter().chain([&*certificate, &key])))?;
        write!(f, "{}", command(call.into_iter().chain([&*token])))
    }
}

impl NextSteps<'_> {
    /// The path of a file, as a shell takes it.
    fn file(&self, name: &str) -> String {
        let path = path(self.folder, name);
        let is_plain = |c: char| c.is_alphanumeric() || "-_./+,:@".contains(c);
        if path.chars().all(is_plain) {
            return path;
        }
        format!("'{}'", path.replace('\'', r"'\''"))
    }
}
