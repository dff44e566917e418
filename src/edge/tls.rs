//! TLS of the HTTP surface, on both sides: who the node is, by files that are read anew when they change, and whom commands
//! trust. A door of rustls.

use std::future::Future;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{
    self, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};
use tracing::{info, warn};

/// A connection that a client made.
pub type ServerStream = server::TlsStream<TcpStream>;
/// A connection that we made.
pub type ClientStream = client::TlsStream<TcpStream>;

/// What users other than the owner and its group may not do with a private key.
const OTHERS: u32 = 0o007;
/// How long a client believes what it has read of its files.
const LATELY: Duration = Duration::from_secs(60);
/// What TLS speaks of inside (RFC 7301).
const PROTOCOL: &[u8] = b"http/1.1";

/// The files of an identity, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and those that lead to its root.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Whoever has a certificate of these authorities may connect; none: everybody may.
    pub client_ca: Option<PathBuf>,
}

/// Why files are no identity, or nobody to trust.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("{path}: can't read it: {source}: give it to the user that runs this", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Everybody on this machine may read or change the private key.
    #[error("{path}: its mode is {mode:04o}, so others may read the private key: chmod 600 it", path = path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file holds something else. What it holds is not shown: it may be a secret.
    #[error("{path}: it holds no {what} in PEM: give a file that does", path = path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// Certificate and key can't be used.
    #[error("{path}: can't use it: {source}: give a certificate, and the private key that belongs to it", path = path.display())]
    Unusable {
        /// The certificate.
        path: PathBuf,
        /// What rustls said.
        source: rustls::Error,
    },
    /// The authorities can't be used.
    #[error("{path}: these are no certificate authorities: {problem}", path = path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What rustls said.
        problem: String,
    },
    /// The system has no authorities.
    #[error("this system has no certificate authorities (package ca-certificates): give one with --ca")]
    NoRoots,
}

impl TlsFiles {
    /// All of them. A key is looked at more closely where it is used.
    fn all(&self) -> impl Iterator<Item = &Path> {
        [&self.cert, &self.key].into_iter().chain(&self.client_ca).map(PathBuf::as_path)
    }

    /// Which of all versions of the files these are.
    fn stamp(&self) -> Stamp {
        let of = |path: &Path| std::fs::metadata(path).ok();
        let stamp = |one: std::fs::Metadata| (one.ino(), one.len(), one.mtime(), one.mtime_nsec());
        self.all().map(|path| of(path).map(stamp)).collect()
    }

    /// # Errors
    /// [`TlsError`].
    fn server(&self) -> Result<ServerConfig, TlsError> {
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let builder = builder.expect("ring has what TLS 1.2 and 1.3 need");
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let roots = Arc::new(authorities(path)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build();
                let problem = |fault: rustls::server::VerifierBuilderError| fault.to_string();
                builder.with_client_cert_verifier(
                    verifier.map_err(|fault| TlsError::Authorities { path: path.clone(), problem: problem(fault) })?,
                )
            }
        };
        let config = builder.with_single_cert(certificates(&self.cert)?, private_key(&self.key)?);
        let mut config = config.map_err(|source| TlsError::Unusable { path: self.cert.clone(), source })?;
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(config)
    }

    /// Whether they can be used.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn check(&self) -> Result<(), TlsError> {
        self.server().map(|_| ())
    }
}

/// Which versions of the files: inode, length and time of change of each; none if it is not there.
type Stamp = Vec<Option<(u64, u64, i64, i64)>>;

/// Who the node is.
#[derive(Debug)]
pub struct Identity {
    files: TlsFiles,
    current: RwLock<Arc<ServerConfig>>,
    /// Of the files that were read last, good or bad.
    stamp: Mutex<Stamp>,
}

impl Identity {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let stamp = Mutex::new(files.stamp());
        Ok(Identity { current: RwLock::new(Arc::new(files.server()?)), stamp, files })
    }

    /// Reads the files again if they have changed; bad ones are told of, and change nothing. Blocks.
    pub fn renew(&self) {
        let mut stamp = self.stamp.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.files.stamp();
        if *stamp == now {
            return;
        }
        *stamp = now;
        match self.files.server() {
            Ok(config) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
                info!(cert = %self.files.cert.display(), "the HTTP surface has a new certificate");
            }
            Err(fault) => warn!(cause = %fault, "the HTTP surface keeps its certificate: the new files can't be used"),
        }
    }

    /// The handshake with who has connected.
    pub fn accept(&self, stream: TcpStream) -> impl Future<Output = io::Result<ServerStream>> + Send + 'static {
        let config = Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner));
        TlsAcceptor::from(config).accept(stream)
    }
}

/// Whom a client trusts, and as whom it goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Whose certificates are believed.
    pub anchor: Anchor,
    /// Our own certificate and key, for a node that asks for one.
    pub own: Option<(PathBuf, PathBuf)>,
    made: Made,
}

/// What the files said last, and when: who connects often does not read them each time. Clones share it.
#[derive(Clone, Debug, Default)]
struct Made(Arc<Mutex<Option<At<Arc<ClientConfig>>>>>);

/// Something, and when it was so.
type At<T> = (Instant, T);

impl PartialEq for Made {
    fn eq(&self, _: &Made) -> bool {
        true
    }
}

impl Eq for Made {}

/// Whose certificates are believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Anchor {
    /// Those of this system's authorities.
    #[default]
    System,
    /// Those of the authorities in this file.
    Authorities(PathBuf),
    /// The one in this file alone, whatever its names: it is the node's own.
    Exactly(PathBuf),
}

impl Trust {
    /// One that has not read its files yet.
    pub fn new(anchor: Anchor, own: Option<(PathBuf, PathBuf)>) -> Self {
        Trust { anchor, own, made: Made::default() }
    }

    /// Whether its files can be used. Blocks.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn check(&self) -> Result<(), TlsError> {
        self.config().map(drop)
    }

    /// What the files say, or said lately. Blocks.
    fn lately(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let mut made = self.made.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, config)) = &*made
            && at.elapsed() < LATELY
        {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(self.config()?);
        *made = Some((Instant::now(), Arc::clone(&config)));
        Ok(config)
    }

    fn config(&self) -> Result<ClientConfig, TlsError> {
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let builder = builder.expect("ring has what TLS 1.2 and 1.3 need");
        let builder = match &self.anchor {
            Anchor::System => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if roots.is_empty() {
                    return Err(TlsError::NoRoots);
                }
                builder.with_root_certificates(roots)
            }
            Anchor::Authorities(path) => builder.with_root_certificates(authorities(path)?),
            Anchor::Exactly(path) => {
                let cert = certificates(path)?.remove(0);
                builder.dangerous().with_custom_certificate_verifier(Arc::new(Exactly(cert)))
            }
        };
        let config = match &self.own {
            None => Ok(builder.with_no_client_auth()),
            Some((cert, key)) => builder.with_client_auth_cert(certificates(cert)?, private_key(key)?),
        };
        let path = self.own.as_ref().map(|(cert, _)| cert.clone()).unwrap_or_default();
        let mut config = config.map_err(|source| TlsError::Unusable { path, source })?;
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(config)
    }

    /// The handshake with a host of that name or address.
    ///
    /// # Errors
    /// What went wrong, with what to do.
    pub async fn connect(&self, stream: TcpStream, host: &str) -> io::Result<ClientStream> {
        let trust = self.clone();
        // A disk may hang.
        let config = tokio::task::spawn_blocking(move || trust.lately()).await.map_err(io::Error::other)?;
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        TlsConnector::from(config.map_err(io::Error::other)?).connect(name, stream).await
    }
}

/// Believes one certificate, since it stands on this machine's disk.
#[derive(Debug)]
struct Exactly(CertificateDer<'static>);

impl ServerCertVerifier for Exactly {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match *end_entity == self.0 {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let none = || TlsError::Content { path: path.to_owned(), what: "certificate" };
    let all: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    all.ok().filter(|all| !all.is_empty()).ok_or_else(none)
}

fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for cert in certificates(path)? {
        let fault = |fault: rustls::Error| TlsError::Authorities { path: path.to_owned(), problem: fault.to_string() };
        roots.add(cert).map_err(fault)?;
    }
    Ok(roots)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = read(path)?;
    let mode = std::fs::metadata(path).map_or(0, |one| one.mode() & 0o7777);
    if mode & OTHERS != 0 {
        return Err(TlsError::Mode { path: path.to_owned(), mode });
    }
    PrivateKeyDer::from_pem_slice(&text).map_err(|_| TlsError::Content { path: path.to_owned(), what: "private key" })
}
