//! Every public path below tonic's `transport` that a client can name.
//!
//! What is below `server`, `Server` and `ServerTlsConfig` is tonic's server, which stays.

#![allow(
    unused_imports,
    reason = "that a `use` line compiles is all that is tested"
)]

use std::any::TypeId;

use bytes::Bytes;
use http_body_util::Empty;

/// The list is here once, and each line becomes two: `use tonic::transport::…` and
/// `use tonic_health_channel::…`.
macro_rules! in_both {
    ($($(#[$when:meta])* use $($name:ident)::+;)+) => {
        mod tonics {
            $($(#[$when])* const _: () = { use tonic::transport::$($name)::+; };)+
        }
        mod ours {
            $($(#[$when])* const _: () = { use tonic_health_channel::$($name)::+; };)+
        }
    };
}

in_both! {
    use Body;
    use Channel;
    use Endpoint;
    use Error;
    use Uri;
    use channel;
    use channel::Change;
    use channel::Change::Insert;
    use channel::Change::Remove;
    use channel::Channel;
    use channel::Endpoint;
    use channel::ResponseFuture;
    #[cfg(feature = "tls-ring")]
    use Certificate;
    #[cfg(feature = "tls-ring")]
    use CertificateDer;
    #[cfg(feature = "tls-ring")]
    use ClientTlsConfig;
    #[cfg(feature = "tls-ring")]
    use Identity;
    #[cfg(feature = "tls-ring")]
    use channel::ClientTlsConfig;
}

// D315
#[test]
fn types_of_other_crates_are_the_same_by_either_path() {
    fn in_tonics_words<B: tonic::transport::Body>() -> TypeId
    where
        B::Data: 'static,
    {
        in_our_words::<B>()
    }
    fn in_our_words<B: tonic_health_channel::Body>() -> TypeId
    where
        B::Data: 'static,
    {
        TypeId::of::<B::Data>()
    }
    assert_eq!(in_tonics_words::<Empty<Bytes>>(), TypeId::of::<Bytes>());
    assert_eq!(
        TypeId::of::<tonic::transport::Uri>(),
        TypeId::of::<tonic_health_channel::Uri>()
    );
    #[cfg(feature = "tls-ring")]
    assert_eq!(
        TypeId::of::<tonic::transport::CertificateDer<'static>>(),
        TypeId::of::<tonic_health_channel::CertificateDer<'static>>()
    );
}
