//! What all commands but `probe` say in the same flags about connections. `probe`
//! has the flags of `grpc-health-probe`, and makes the same of them.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    str::FromStr,
    time::{Duration, SystemTime},
};

use clap::Args;
use tonic::metadata::{
    Ascii, Binary, BinaryMetadataValue, MetadataKey, MetadataMap, MetadataValue,
};
use tonic_health_channel::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::{exit::Exit, no_verify::NoVerify, output, report::Clock, spelling};

/// How connections are made, and calls on them.
#[derive(Args, Clone, Debug)]
pub(crate) struct ConnectArgs {
    /// Connect with TLS. Targets that begin with https:// always use it
    #[arg(long)]
    tls: bool,
    /// Trust the certificate authorities in this PEM file, instead of the system's
    #[arg(long, value_name = "FILE")]
    tls_ca_cert: Option<PathBuf>,
    /// Show this certificate (PEM) to servers that ask for one
    #[arg(long, value_name = "FILE", requires = "tls_client_key")]
    tls_client_cert: Option<PathBuf>,
    /// Private key (PEM) of the client certificate
    #[arg(long, value_name = "FILE", requires = "tls_client_cert")]
    tls_client_key: Option<PathBuf>,
    /// Accept every certificate. A host in between can then impersonate the server
    #[arg(long)]
    tls_no_verify: bool,
    /// Expect this name in the server certificate, instead of the target's
    #[arg(long, value_name = "NAME")]
    tls_server_name: Option<String>,
    /// Time limit of one connection attempt
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = humantime::parse_duration)]
    connect_timeout: Duration,
    /// Send this header with each call; may be repeated
    #[arg(long, value_name = "NAME: VALUE")]
    rpc_header: Vec<String>,
    /// Print each step and its duration on stderr
    #[arg(short, long)]
    verbose: bool,
}

/// What is trusted and shown in TLS: files and a name.
#[derive(Clone, Debug, Default)]
pub(crate) struct TlsFiles {
    pub(crate) ca: Option<PathBuf>,
    /// A certificate and its key.
    pub(crate) client: Option<(PathBuf, PathBuf)>,
    pub(crate) server_name: Option<String>,
    /// Every certificate is accepted.
    pub(crate) no_verify: bool,
}

impl ConnectArgs {
    /// The flags that make sense together, and for these targets.
    pub(crate) fn check(&self, targets: &[String]) -> Result<(), Exit> {
        let given = [
            (self.tls_ca_cert.is_some(), "--tls-ca-cert"),
            (self.tls_client_cert.is_some(), "--tls-client-cert"),
            (self.tls_no_verify, "--tls-no-verify"),
            (self.tls_server_name.is_some(), "--tls-server-name"),
        ];
        let may_use_tls = targets.iter().any(|target| self.may_use_tls(target));
        for (is_given, flag) in given {
            if is_given && !may_use_tls {
                return Err(Exit::bad_arguments(format_args!(
                    "{flag} has no effect without --tls, or a target https://…"
                )));
            }
            let is_about_trust = ["--tls-ca-cert", "--tls-server-name"].contains(&flag);
            if is_given && is_about_trust && self.tls_no_verify {
                return Err(Exit::bad_arguments(format_args!(
                    "{flag} has no effect with --tls-no-verify"
                )));
            }
        }
        Ok(())
    }

    /// What is in a file has its own scheme.
    fn may_use_tls(&self, target: &str) -> bool {
        self.tls || target.starts_with("https://") || spelling::is_file(target)
    }

    /// The endpoint whose scheme and options the backends of `target` take.
    pub(crate) fn template(&self, target: &str) -> Result<Endpoint, Exit> {
        let files = TlsFiles {
            ca: self.tls_ca_cert.clone(),
            client: self
                .tls_client_cert
                .clone()
                .zip(self.tls_client_key.clone()),
            server_name: match &self.tls_server_name {
                // What `:port` is called, as in `probe`.
                None if target.starts_with(':') => Some("localhost".to_owned()),
                name => name.clone(),
            },
            no_verify: self.tls_no_verify,
        };
        let is_secured = self.tls || (self.may_use_tls(target) && files.is_any_given());
        if target.starts_with("https://") {
            certificates_have_begun(Clock::now().today)?;
        }
        if !is_secured {
            // The system's roots are read for the first https:// target, if there is one.
            let plain = Endpoint::from_static("http://target");
            return Ok(plain.connect_timeout(self.connect_timeout));
        }
        let endpoint =
            Endpoint::from_static("https://target").connect_timeout(self.connect_timeout);
        files.secure(endpoint, "--tls-ca-cert")
    }

    pub(crate) fn headers(&self) -> Result<MetadataMap, Exit> {
        headers("--rpc-header", &self.rpc_header).map_err(Exit::bad_arguments)
    }

    pub(crate) fn tls(&self) -> bool {
        self.tls
    }

    pub(crate) fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    /// A line on stderr, where that is asked for.
    pub(crate) fn log(&self, line: fmt::Arguments<'_>) {
        if self.verbose {
            output::tell(line);
        }
    }

    /// What is about to be done. `answer` bounds a call.
    pub(crate) fn log_plan(&self, targets: &[String], answer: Option<Duration>) {
        for target in targets {
            let tls = self.tls || target.starts_with("https://");
            self.log(format_args!("target {target}, TLS: {tls}"));
        }
        let connect = humantime::format_duration(self.connect_timeout);
        match answer.map(humantime::format_duration) {
            Some(answer) => self.log(format_args!(
                "timeouts: {connect} to connect, {answer} for an answer"
            )),
            None => self.log(format_args!("timeout: {connect} to connect")),
        }
    }
}

impl TlsFiles {
    fn is_any_given(&self) -> bool {
        let Self {
            ca,
            client,
            server_name,
            no_verify,
        } = self;
        ca.is_some() || client.is_some() || server_name.is_some() || *no_verify
    }

    /// `endpoint`, whose scheme is https, with all of this. `flag` names authorities.
    pub(crate) fn secure(&self, endpoint: Endpoint, flag: &str) -> Result<Endpoint, Exit> {
        certificates_have_begun(Clock::now().today)?;
        let config = self.without_roots()?;
        let secured = match (&self.ca, self.no_verify) {
            (_, true) => endpoint.dangerous_tls_config_with_verifier(config, NoVerify::new()),
            (None, false) => endpoint.tls_config(config.with_native_roots()),
            (Some(path), false) => {
                endpoint.tls_config(config.ca_certificate(Certificate::from_pem(read(path)?)))
            }
        };
        let trusts_system = self.ca.is_none() && !self.no_verify;
        secured.map_err(|error| match trusts_system && !system_has_authorities() {
            true => Exit::bad_arguments(format_args!(
                "no trust roots: the system has no certificate authorities; set a file of them \
                 with {flag}"
            )),
            false => Exit::bad_arguments(error),
        })
    }

    fn without_roots(&self) -> Result<ClientTlsConfig, Exit> {
        let config = match &self.client {
            None => ClientTlsConfig::new(),
            Some((certificate, key)) => {
                let identity = Identity::from_pem(read(certificate)?, read(key)?);
                ClientTlsConfig::new().identity(identity)
            }
        };
        Ok(match &self.server_name {
            None => config,
            Some(name) => config.domain_name(without_port(name)),
        })
    }
}

/// Before anything of TLS: what computes it, where that is not ring.
pub(crate) fn choose_provider() {
    #[cfg(feature = "tls-aws-lc")]
    {
        let provider = tokio_rustls::rustls::crypto::aws_lc_rs::default_provider();
        let installed = provider.install_default();
        installed.expect("the process has no TLS crypto provider yet");
    }
}

/// The host in the name of a server, which may have a port, as for gRPC in Go: what is not
/// `host:port` is a host. An IPv6 address with a port is in brackets.
fn without_port(name: &str) -> &str {
    match name.rsplit_once(':') {
        Some((host, _)) if host.starts_with('[') && host.ends_with(']') => host,
        Some((host, _)) if !host.contains([':', '[', ']']) => host,
        Some(_) | None => name,
    }
}

/// Handshakes would fail one after another until the timeout.
fn certificates_have_begun(today: SystemTime) -> Result<(), Exit> {
    match today < SystemTime::UNIX_EPOCH {
        true => Err(Exit::Unreachable(
            "error: the clock of this host is before 1970, so it cannot use TLS"
                .to_owned()
                .into(),
        )),
        false => Ok(()),
    }
}

fn system_has_authorities() -> bool {
    let config = ClientTlsConfig::new().with_native_roots();
    let endpoint = Endpoint::from_static("https://localhost").tls_config(config);
    endpoint.is_ok()
}

fn read(path: &Path) -> Result<Vec<u8>, Exit> {
    let bad = |error| Exit::bad_arguments(format_args!("cannot read {}: {error}", path.display()));
    fs::read(path).map_err(bad)
}

/// Each of them is `name: value`. What a `-bin` header carries is given as it is.
pub(crate) fn headers(flag: &str, texts: &[String]) -> Result<MetadataMap, String> {
    let mut headers = MetadataMap::new();
    for text in texts {
        // Without the text: it may be a secret.
        let invalid = || format!("{flag}: write `name: value`");
        let (name, value) = text.split_once(':').ok_or_else(invalid)?;
        let value = value.trim_start();
        match name.to_ascii_lowercase().ends_with("-bin") {
            true => {
                let name = MetadataKey::<Binary>::from_str(name).map_err(|_| invalid())?;
                headers.append_bin(name, BinaryMetadataValue::from_bytes(value.as_bytes()));
            }
            false => {
                let name = MetadataKey::<Ascii>::from_str(name).map_err(|_| invalid())?;
                let value = MetadataValue::try_from(value).map_err(|_| invalid())?;
                headers.append(name, value);
            }
        }
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    // D299
    #[test]
    fn the_port_of_a_server_name_is_not_part_of_it() {
        for (name, host) in [
            ("shop.example", "shop.example"),
            ("shop.example:443", "shop.example"),
            ("127.0.0.1:443", "127.0.0.1"),
            ("::1", "::1"),
            ("[::1]", "[::1]"),
            ("[::1]:443", "[::1]"),
            (":443", ""),
        ] {
            assert_eq!(without_port(name), host, "{name}");
        }
    }

    #[test]
    fn a_clock_before_1970_is_an_error_of_tls() {
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        let exit = certificates_have_begun(before).expect_err("no certificate is valid");
        assert_eq!(exit.number(), 2);
        assert_eq!(certificates_have_begun(SystemTime::UNIX_EPOCH), Ok(()));
    }
}
