//! Reads the files that a configuration names.

use std::{
    fmt,
    fs::{self, File, Metadata},
    io::{self, Read},
    path::Path,
};

use rustls::{
    Error, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};

use secrecy::{SecretString, zeroize::Zeroizing};

use super::{
    error::{Problem, quote},
    reader::Section,
};

/// A certificate chain with its private key.
pub struct Identity {
    /// The chain, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's private key.
    pub key: Zeroizing<PrivateKeyDer<'static>>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("certificates", &self.chain.len()).finish_non_exhaustive()
    }
}

/// The largest PEM file, in bytes; all certificate authorities of a system need about a quarter of it.
pub(super) const PEM_MAX: u64 = 1024 * 1024;

/// The longest secret in a file, in bytes.
const SECRET_MAX: u64 = 4096;

/// What some editors write in front of a text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Whether a file can be read only once, like a pipe. One that is not there is no such file.
pub(crate) fn is_read_once(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir())
}

/// Opens a file that is read again later, to see whether it has changed. Another kind of file than a regular
/// one is an error: whoever opens a pipe waits for its writer, perhaps for good, and finds nothing the second
/// time.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    if is_read_once(path) {
        let words = "it is a pipe or a device, and has to be a regular file, since it is read again and again";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, words));
    }
    File::open(path)
}

/// Reads a text file of at most `max` bytes, without its byte order mark; a larger one is an error. What was
/// read is overwritten when it is dropped, since it may be a secret.
pub(crate) fn read(path: &Path, max: u64) -> io::Result<(Zeroizing<Vec<u8>>, Metadata)> {
    read_to_end(open(path)?, max)
}

/// The same for a file that may be a pipe, and is read once then.
pub(super) fn read_once(path: &Path, max: u64) -> io::Result<(Zeroizing<Vec<u8>>, Metadata)> {
    read_to_end(File::open(path)?, max)
}

fn read_to_end(file: File, max: u64) -> io::Result<(Zeroizing<Vec<u8>>, Metadata)> {
    let metadata = file.metadata()?;
    // A vector that grows leaves what it had behind. One that is full asks for more before it learns that
    // the file has ended. A pipe does not tell its length.
    let length = metadata.len().max(SECRET_MAX).min(max) + 1;
    let mut content = Zeroizing::new(Vec::with_capacity(usize::try_from(length).unwrap_or(0)));
    file.take(max + 1).read_to_end(&mut content)?;
    if content.len() as u64 > max {
        let message = format!("more than {} KiB", max / 1024);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    if content.starts_with(BYTE_ORDER_MARK) {
        content.drain(..BYTE_ORDER_MARK.len());
    }
    Ok((content, metadata))
}

/// The mistake for a file that cannot be read: its path, and the system's error text.
pub(super) fn unreadable(path: &Path, error: &io::Error, remedy: &str) -> Problem {
    let path = quote(&path.to_string_lossy());
    Problem::new(format!("cannot read {path} ({})", words(error)), remedy)
}

/// The system's error text, without the error number.
pub(super) fn words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

/// Warns if other users can read a file with a secret; `key` names the file.
pub(super) fn warn_of_readers(
    section: &Section<'_>,
    key: &'static str,
    path: &Path,
    metadata: &Metadata,
) {
    if readable_by_others(metadata) {
        section.notes().warn(format!(
            "{}.{key}: others on this machine can read {}; make it readable by the bridge alone \
             (chmod 600, or defaultMode: 0440 on a Kubernetes secret)",
            section.key(),
            path.display()
        ));
    }
}

#[cfg(unix)]
fn readable_by_others(metadata: &Metadata) -> bool {
    std::os::unix::fs::MetadataExt::mode(metadata) & 0o027 != 0
}

#[cfg(not(unix))]
fn readable_by_others(_: &Metadata) -> bool {
    false
}

impl Section<'_> {
    /// Reads the certificates in the PEM file that `key` names; at least one.
    pub(super) fn certificates(
        &self,
        key: &'static str,
        whose: &str,
    ) -> Option<Vec<CertificateDer<'static>>> {
        let remedy = format!("give the path of a PEM file with {whose}");
        let path = self.path(key)?;
        self.read(key, |_| certificates(&path, &remedy))
    }

    /// The same, for certificates that are roots; each is checked for that.
    pub(super) fn roots(
        &self,
        key: &'static str,
        whose: &str,
    ) -> Option<Vec<CertificateDer<'static>>> {
        let roots = self.certificates(key, whose)?;
        self.read(key, |_| check_roots(&roots).map(|()| roots))
    }

    /// Reads the certificate chain and the private key from the files that the two configuration keys
    /// name; `None` if the keys are absent or the files are wrong.
    pub(super) fn identity(&self, chain: &'static str, key: &'static str) -> Option<Identity> {
        if self.has(chain) != self.has(key) {
            let (given, absent) = if self.has(chain) { (chain, key) } else { (key, chain) };
            let remedy = format!("give {absent} too, or neither");
            let problem = format!("has no effect without {absent}");
            self.contradiction(&[given], Problem::new(problem, remedy));
        }
        let certificates = self.certificates(chain, "the certificate, leaf first");
        let key_path = self.path(key);
        let private = key_path.and_then(|path| self.read(key, |_| self.private_key(key, &path)));
        let (certificates, private) = (certificates?, private?);
        self.read(key, |_| matching(certificates, private))
    }

    /// Reads a secret from the file that `key` names, without line breaks at its end.
    pub(super) fn secret(&self, key: &'static str, remedy: &'static str) -> Option<SecretString> {
        let path = self.path(key)?;
        self.read(key, |_| {
            let (bytes, metadata) =
                read(&path, SECRET_MAX).map_err(|error| unreadable(&path, &error, remedy))?;
            warn_of_readers(self, key, &path, &metadata);
            let text = std::str::from_utf8(&bytes);
            let text = text.map_err(|_| Problem::new("names a file that is not text", remedy))?;
            match text.trim_end_matches(['\r', '\n']) {
                "" => Err(Problem::new("names an empty file", remedy)),
                secret => Ok(SecretString::from(secret)),
            }
        })
    }

    fn private_key(
        &self,
        key: &'static str,
        path: &Path,
    ) -> Result<Zeroizing<PrivateKeyDer<'static>>, Problem> {
        let remedy = "give the path of a PEM file with the unencrypted private key";
        let (content, metadata) =
            read(path, PEM_MAX).map_err(|error| unreadable(path, &error, remedy))?;
        warn_of_readers(self, key, path, &metadata);
        PrivateKeyDer::from_pem_slice(&content).map(Zeroizing::new).map_err(|_| {
            let shown = quote(&path.to_string_lossy());
            Problem::new(format!("{shown} holds no usable private key"), remedy)
        })
    }
}

fn certificates(path: &Path, remedy: &str) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let (content, _) = read(path, PEM_MAX).map_err(|error| unreadable(path, &error, remedy))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&content).collect();
    // The parser's own message may quote the file.
    let shown = quote(&path.to_string_lossy());
    let found = found.map_err(|_| Problem::new(format!("{shown} is not valid PEM"), remedy))?;
    if found.is_empty() {
        return Err(Problem::new(format!("{shown} holds no certificate"), remedy));
    }
    Ok(found)
}

/// Checks that each certificate can be trusted as a root.
fn check_roots(roots: &[CertificateDer<'static>]) -> Result<(), Problem> {
    let mut store = RootCertStore::empty();
    for (at, root) in (1..).zip(roots) {
        store.add(root.clone()).map_err(|_| {
            let problem = format!("certificate {at} in the file is not an X.509 v3 certificate");
            Problem::new(problem, "remove it, or replace it by the CA's certificate")
        })?;
    }
    Ok(())
}

fn matching(
    chain: Vec<CertificateDer<'static>>,
    key: Zeroizing<PrivateKeyDer<'static>>,
) -> Result<Identity, Problem> {
    let provider = aws_lc_rs::default_provider();
    match CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider) {
        Ok(_) => Ok(Identity { chain, key }),
        Err(Error::InconsistentKeys(_)) => Err(Problem::new(
            "does not belong to the certificate",
            "give the private key that the first certificate was made for",
        )),
        Err(Error::InvalidCertificate(_)) => Err(Problem::new(
            "goes with a certificate that cannot be read",
            "give an X.509 v3 certificate, leaf first",
        )),
        Err(_) => Err(Problem::new(
            "is of a kind that TLS does not take",
            "give an RSA (2048 bits or more), ECDSA (P-256, P-384) or Ed25519 key",
        )),
    }
}
