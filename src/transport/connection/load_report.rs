//! The load that a server reports with a call (gRFC A51): a header of the last frame of a
//! response.

use http::{HeaderMap, HeaderName};
use prost::Message;
use tonic::metadata::MetadataMap;

use crate::pb::orca::OrcaLoadReport;

/// One `OrcaLoadReport`, in base64.
pub(super) const LOAD: &str = "endpoint-load-metrics-bin";

/// Why a report counts as none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    Twice,
    NotBase64,
    NotAReport,
}

impl Unreadable {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Twice => "there is more than one",
            Self::NotBase64 => "it is not base64",
            Self::NotAReport => "it is not an OrcaLoadReport",
        }
    }
}

/// The report in the last frame of a response, if there is one.
pub(super) fn of_last(last: &HeaderMap) -> Result<Option<OrcaLoadReport>, Unreadable> {
    let mut values = last.get_all(LOAD).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Unreadable::Twice);
    }
    // tonic decodes base64 only of its own maps.
    let alone = HeaderMap::from_iter([(HeaderName::from_static(LOAD), value.clone())]);
    let alone = MetadataMap::from_headers(alone);
    let bytes = alone.get_bin(LOAD).and_then(|value| value.to_bytes().ok());
    let bytes = bytes.ok_or(Unreadable::NotBase64)?;
    let report = OrcaLoadReport::decode(bytes).map_err(|_| Unreadable::NotAReport)?;
    Ok(Some(report))
}

/// A last frame with a report of so many requests per second, which use this part of a backend.
#[cfg(test)]
pub(super) fn of_load(rate: f64, utilization: f64) -> HeaderMap {
    let report = OrcaLoadReport {
        rps_fractional: rate,
        application_utilization: utilization,
        ..OrcaLoadReport::default()
    };
    let value = tonic::metadata::MetadataValue::from_bytes(&report.encode_to_vec());
    let value = http::HeaderValue::from_bytes(value.as_encoded_bytes());
    HeaderMap::from_iter([(HeaderName::from_static(LOAD), value.expect("base64"))])
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use tonic::metadata::MetadataValue;

    use super::*;

    fn trailers(values: &[&[u8]]) -> HeaderMap {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        for value in values {
            let value = HeaderValue::from_bytes(value).expect("a value");
            trailers.append(LOAD, value);
        }
        trailers
    }

    fn encoded(bytes: &[u8]) -> Vec<u8> {
        MetadataValue::from_bytes(bytes).as_encoded_bytes().to_vec()
    }

    // W26
    #[test]
    fn one_value_is_a_report() {
        let report = OrcaLoadReport {
            rps_fractional: 10.0,
            utilization: [("disk".to_owned(), 0.5)].into(),
            ..OrcaLoadReport::default()
        };
        let value = encoded(&report.encode_to_vec());
        assert_eq!(of_last(&trailers(&[&value])), Ok(Some(report)));
        assert_eq!(of_last(&trailers(&[])), Ok(None));
        let padded = trailers(&[b"CQ=="]);
        assert_eq!(of_last(&padded), Err(Unreadable::NotAReport));
    }

    // W26
    #[test]
    fn anything_else_is_none_and_why() {
        let value = encoded(&OrcaLoadReport::default().encode_to_vec());
        let cases: [(&[&[u8]], _); 4] = [
            (&[&value, &value], Unreadable::Twice),
            (&[b"!"], Unreadable::NotBase64),
            (&[b"CQ,CQ"], Unreadable::NotBase64),
            (&[&encoded(&[0, 0xff, 0xff])], Unreadable::NotAReport),
        ];
        for (values, why) in cases {
            assert_eq!(of_last(&trailers(values)), Err(why));
        }
    }
}
