//! The names of labels.

pub(crate) const TARGET: &str = "grpc.target";
pub(crate) const METHOD: &str = "grpc.method";
pub(crate) const STATUS: &str = "grpc.status";
/// gRFC A108.
pub(crate) const CUSTOM: &str = "grpc.client.call.custom";
/// gRFC A78 and A89. No source names them yet, so their value is the empty string.
pub(crate) const LOCALITY: &str = "grpc.lb.locality";
pub(crate) const BACKEND_SERVICE: &str = "grpc.lb.backend_service";
/// gRFC A94.
pub(crate) const DISCONNECT_ERROR: &str = "grpc.disconnect_error";
pub(crate) const SECURITY_LEVEL: &str = "grpc.security_level";
/// gRFC A118.
pub(crate) const HANDSHAKE_RESULT: &str = "grpc.tls.handshake.result";
pub(crate) const HANDSHAKE_RESUMED: &str = "grpc.tls.handshake.resumed";
/// gRFC A91.
pub(crate) const DETECTION_METHOD: &str = "grpc.lb.outlier_detection.detection_method";
pub(crate) const UNENFORCED_REASON: &str = "grpc.lb.outlier_detection.unenforced_reason";

/// The label of a backend, as its source gave it.
pub(crate) const BACKEND: &str = "backend";
pub(crate) const STATE: &str = "state";
pub(crate) const HEALTH: &str = "health";
pub(crate) const FROM: &str = "from";
pub(crate) const TO: &str = "to";
pub(crate) const RPC: &str = "rpc";
pub(crate) const REASON: &str = "reason";
pub(crate) const CAUSE: &str = "cause";
pub(crate) const ENDED: &str = "ended";
pub(crate) const OUTCOME: &str = "outcome";
pub(crate) const RESULT: &str = "result";
