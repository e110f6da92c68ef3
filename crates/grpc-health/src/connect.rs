//! What all commands but `probe` say in the same flags about connections. `probe`
//! has the flags of `grpc-health-probe`, and makes the same of them.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use tonic_health_channel::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::exit::Exit;

/// How connections are made.
#[derive(Args, Clone, Debug)]
pub(crate) struct ConnectArgs {
    /// Connect by TLS. Targets that begin with https:// do anyway
    #[arg(long)]
    tls: bool,
    /// Trust the certificate authorities in this PEM file, instead of the system's
    #[arg(long, value_name = "FILE", requires = "tls")]
    tls_ca_cert: Option<PathBuf>,
    /// Show this certificate (PEM) to servers that ask for one
    #[arg(long, value_name = "FILE", requires = "tls_client_key")]
    tls_client_cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_client_cert")]
    tls_client_key: Option<PathBuf>,
    /// Expect this name in servers' certificates, instead of the target's
    #[arg(long, value_name = "NAME", requires = "tls")]
    tls_server_name: Option<String>,
    /// Bounds one attempt to connect
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = humantime::parse_duration)]
    connect_timeout: Duration,
}

/// What is trusted and shown in TLS: files and a name.
#[derive(Clone, Debug, Default)]
pub(crate) struct TlsFiles {
    pub(crate) ca: Option<PathBuf>,
    /// A certificate and its key.
    pub(crate) client: Option<(PathBuf, PathBuf)>,
    pub(crate) server_name: Option<String>,
}

impl ConnectArgs {
    /// The endpoint whose scheme and options the backends of a target take.
    pub(crate) fn template(&self) -> Result<Endpoint, Exit> {
        if !self.tls {
            // The system's roots are read for the first https:// target, if there is one.
            let plain = Endpoint::from_static("http://target");
            return Ok(plain.connect_timeout(self.connect_timeout));
        }
        let files = TlsFiles {
            ca: self.tls_ca_cert.clone(),
            client: self
                .tls_client_cert
                .clone()
                .zip(self.tls_client_key.clone()),
            server_name: self.tls_server_name.clone(),
        };
        Endpoint::from_static("https://target")
            .connect_timeout(self.connect_timeout)
            .tls_config(files.config()?)
            .map_err(Exit::bad_arguments)
    }

    pub(crate) fn tls(&self) -> bool {
        self.tls
    }

    pub(crate) fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }
}

impl TlsFiles {
    pub(crate) fn config(&self) -> Result<ClientTlsConfig, Exit> {
        let config = self.without_roots()?;
        Ok(match &self.ca {
            None => config.with_native_roots(),
            Some(path) => config.ca_certificate(Certificate::from_pem(read(path)?)),
        })
    }

    /// The same, but nobody is trusted yet.
    pub(crate) fn without_roots(&self) -> Result<ClientTlsConfig, Exit> {
        let config = match &self.client {
            None => ClientTlsConfig::new(),
            Some((certificate, key)) => {
                let identity = Identity::from_pem(read(certificate)?, read(key)?);
                ClientTlsConfig::new().identity(identity)
            }
        };
        Ok(match &self.server_name {
            None => config,
            Some(name) => config.domain_name(name),
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Exit> {
    let bad = |error| Exit::bad_arguments(format_args!("cannot read {}: {error}", path.display()));
    fs::read(path).map_err(bad)
}
