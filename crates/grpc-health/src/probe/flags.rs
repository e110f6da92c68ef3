//! The flags of `grpc-health-probe`, and which of them go together.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{Arg, ArgAction, Args};
use tonic::metadata::MetadataMap;
use tonic_health_channel::Endpoint;

use super::address;
use crate::{
    connect::{TlsFiles, headers},
    exit::Exit,
    go,
};

#[derive(Args, Debug)]
#[command(args_override_self = true, mut_args = as_in_go)]
pub(crate) struct ProbeArgs {
    /// The server: host:port, :port for this host, or unix:path (required)
    #[arg(long, value_name = "ADDRESS", default_value = "")]
    addr: String,
    /// The service to ask about; without one, the server as a whole
    #[arg(long, value_name = "NAME", default_value = "")]
    service: String,
    /// Time limit of the connection attempt, TLS handshake included
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = go::parse_duration)]
    connect_timeout: Duration,
    /// Time limit of the health check call
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = go::parse_duration)]
    rpc_timeout: Duration,
    /// User agent sent to the server
    #[arg(long, value_name = "TEXT", default_value = "grpc_health_probe")]
    user_agent: String,
    /// Send this header with the call; may be repeated
    #[arg(long, value_name = "NAME: VALUE", action = ArgAction::Append)]
    rpc_header: Vec<String>,
    /// Print each step and its duration on stderr
    #[arg(short, alias = "v")]
    verbose: bool,
    /// Compress the request with gzip, and accept a compressed response
    #[arg(long)]
    gzip: bool,
    /// Connect with TLS
    #[arg(long)]
    tls: bool,
    /// Trust the certificate authorities in this PEM file, not the system's
    #[arg(long, value_name = "FILE")]
    tls_ca_cert: Option<OsString>,
    /// Show this certificate (PEM) to a server that asks for one
    #[arg(long, value_name = "FILE")]
    tls_client_cert: Option<OsString>,
    /// Private key (PEM) of the client certificate
    #[arg(long, value_name = "FILE")]
    tls_client_key: Option<OsString>,
    /// Accept every certificate. A host in between can then impersonate the server
    #[arg(long)]
    tls_no_verify: bool,
    /// Expect this name in the server's certificate, not the address's host
    #[arg(long, value_name = "NAME", default_value = "")]
    tls_server_name: String,
    #[arg(long, hide = true)]
    alts: bool,
    #[arg(long, hide = true)]
    spiffe: bool,
}

/// Lets a switch have a value, as in Go. The help shows no default that is empty or `false`.
fn as_in_go(arg: Arg) -> Arg {
    if !matches!(arg.get_action(), ArgAction::SetTrue) {
        let is_empty = arg.get_default_values() == [""];
        return arg.hide_default_value(is_empty);
    }
    arg.action(ArgAction::Set)
        .value_name("BOOL")
        .num_args(0..=1)
        .require_equals(true)
        .value_parser(go::parse_bool)
        .default_value("false")
        .default_missing_value("true")
        .hide_default_value(true)
}

/// What is to be done.
#[derive(Debug)]
pub(super) struct Probe {
    pub(super) addr: String,
    pub(super) service: String,
    pub(super) connect_timeout: Duration,
    pub(super) rpc_timeout: Duration,
    pub(super) headers: MetadataMap,
    pub(super) verbose: bool,
    pub(super) gzip: bool,
    pub(super) tls: bool,
    pub(super) endpoint: Endpoint,
}

impl TryFrom<ProbeArgs> for Probe {
    type Error = Exit;

    /// Reads the files that the arguments name, and connects to nobody.
    fn try_from(args: ProbeArgs) -> Result<Self, Exit> {
        args.check().map_err(Exit::bad_arguments)?;
        let headers = headers("-rpc-header", &args.rpc_header).map_err(Exit::bad_arguments)?;
        let endpoint = address::endpoint(&args.addr, args.tls).map_err(Exit::bad_arguments)?;
        let endpoint = endpoint
            .user_agent(args.user_agent.as_str())
            .map_err(Exit::bad_arguments)?;
        Ok(Self {
            endpoint: args.secured(endpoint)?,
            addr: args.addr,
            service: args.service,
            connect_timeout: args.connect_timeout,
            rpc_timeout: args.rpc_timeout,
            headers,
            verbose: args.verbose,
            gzip: args.gzip,
            tls: args.tls,
        })
    }
}

impl ProbeArgs {
    /// What `grpc-health-probe` refuses is refused here. An empty value is none, as
    /// templates leave it.
    fn check(&self) -> Result<(), String> {
        if self.addr.is_empty() {
            return Err("there is no address; give one by -addr".to_owned());
        }
        if self.alts {
            return Err("-alts: ALTS, of Google's cloud, is not supported".to_owned());
        }
        if self.spiffe {
            return Err(
                "-spiffe: the SPIFFE workload API is not supported; give the \
                 certificates as files, by -tls-client-cert, -tls-client-key and -tls-ca-cert"
                    .to_owned(),
            );
        }
        let ca = file(&self.tls_ca_cert).is_some();
        let certificate = file(&self.tls_client_cert).is_some();
        let key = file(&self.tls_client_key).is_some();
        let server_name = !self.tls_server_name.is_empty();
        for (is_given, flag) in [
            (self.tls_no_verify, "-tls-no-verify"),
            (ca, "-tls-ca-cert"),
            (certificate, "-tls-client-cert"),
            (key, "-tls-client-key"),
            (server_name, "-tls-server-name"),
        ] {
            if is_given && !self.tls {
                return Err(format!("{flag} has no effect without -tls"));
            }
        }
        match (certificate, key) {
            (true, false) => return Err("-tls-client-cert needs -tls-client-key".to_owned()),
            (false, true) => return Err("-tls-client-key needs -tls-client-cert".to_owned()),
            (true, true) | (false, false) => {}
        }
        for (is_given, flag) in [(ca, "-tls-ca-cert"), (server_name, "-tls-server-name")] {
            if is_given && self.tls_no_verify {
                return Err(format!("{flag} has no effect with -tls-no-verify"));
            }
        }
        Ok(())
    }

    fn secured(&self, endpoint: Endpoint) -> Result<Endpoint, Exit> {
        if !self.tls {
            return Ok(endpoint);
        }
        let files = TlsFiles {
            ca: file(&self.tls_ca_cert),
            client: file(&self.tls_client_cert).zip(file(&self.tls_client_key)),
            server_name: self.server_name(),
            no_verify: self.tls_no_verify,
        };
        let endpoint = match self.tls_server_name.as_str() {
            "" => endpoint,
            name => {
                let origin = address::uri("https", &address::bracketed(name));
                endpoint.origin(origin.map_err(Exit::bad_arguments)?)
            }
        };
        files.secure(endpoint, "-tls-ca-cert")
    }

    /// The name in the server's certificate, if not the host that is connected to.
    fn server_name(&self) -> Option<String> {
        match self.tls_server_name.as_str() {
            "" if address::is_this_host(&self.addr) => Some("localhost".to_owned()),
            "" => None,
            name => Some(name.to_owned()),
        }
    }
}

/// An empty name is none.
fn file(name: &Option<OsString>) -> Option<PathBuf> {
    let name = name.as_ref().filter(|name| !name.is_empty());
    name.map(PathBuf::from)
}
