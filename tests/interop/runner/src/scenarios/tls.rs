//! TLS as each language does it by itself.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tonic::Code;
use tonic_health_channel::{Certificate, Channel, ClientTlsConfig, ConnectivityState, Endpoint};

use crate::{
    greeter::HelloRequest,
    report::Verdict,
    stage::{self, GREETER, Stage, Target, all_ready, client, until},
};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Result<Authority, String> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().map_err(stage::text)?;
    CertifiedIssuer::self_signed(params, key).map_err(stage::text)
}

/// Who signed it is trusted, and the health check and calls are as without TLS; or is
/// not, and the reason is told.
pub(super) async fn defaults(target: Target) -> Verdict {
    let (ours, foreign) = (authority("ours")?, authority("foreign")?);
    let key = KeyPair::generate().map_err(stage::text)?;
    let params = CertificateParams::new(["greeter.test".to_owned()]).map_err(stage::text)?;
    let certificate = params.signed_by(&key, &ours).map_err(stage::text)?;
    let folder = tempfile::tempdir().map_err(stage::text)?;
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let (cert_path, key_path) = (path("cert.pem"), path("key.pem"));
    std::fs::write(&cert_path, certificate.pem()).map_err(stage::text)?;
    std::fs::write(&key_path, key.serialize_pem()).map_err(stage::text)?;

    let stage = target
        .start_serving(1, &["--cert", &cert_path, "--key", &key_path])
        .await?;
    let trusting = channel(&stage, &ours)?;
    all_ready(&trusting).await?;
    let hello = || HelloRequest {
        name: "you".to_owned(),
        count: 1,
    };
    for _ in &stage.servers {
        client(&trusting)
            .say_hello(hello())
            .await
            .map_err(stage::text)?;
    }
    for server in &stage.servers {
        server.set_serving(GREETER, false).await?;
    }
    until(&trusting, "no backend in rotation", |status| {
        status.state() == ConnectivityState::TransientFailure
    })
    .await?;

    let distrusting = channel(&stage, &foreign)?;
    let refused = |status: &tonic_health_channel::status::ChannelStatus| {
        let mut backends = status.backends().iter();
        status.state() == ConnectivityState::TransientFailure
            && backends.all(|backend| backend.last_error().is_some())
    };
    until(&distrusting, "failed handshakes", refused).await?;
    let Err(status) = client(&distrusting).say_hello(hello()).await else {
        return Err("expected a failure; seen: a reply".into());
    };
    if status.code() != Code::Unavailable || !status.message().contains("unknown authority") {
        return Err(format!("expected a word on the certificate; seen: {status:?}").into());
    }
    Ok(stage.note("trusted, and not".to_owned()))
}

fn channel(stage: &Stage, authority: &Authority) -> Result<Channel, String> {
    let config = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(authority.pem()))
        .domain_name("greeter.test");
    let endpoints = stage.servers.iter().map(|server| {
        let endpoint = Endpoint::from_shared(format!("https://{}", server.address()));
        let endpoint = endpoint.map_err(stage::text)?;
        endpoint.tls_config(config.clone()).map_err(stage::text)
    });
    stage::balance(GREETER, endpoints.collect::<Result<_, String>>()?)
}
