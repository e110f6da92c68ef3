//! From a slot to a stream: the request is authorized, and goes out.

use http::Request;
use tonic::Status;

use super::{
    request::OutgoingRequest,
    response::{Exchange, Failed},
};
use crate::{
    error::{Error, ErrorKind},
    transport::{
        connection::{CallSlot, RequestInfo, Stage},
        words::h2_error,
    },
};

/// Why an attempt has no response.
#[derive(Debug)]
pub(crate) enum SendError {
    /// Nothing was sent, as the connection takes no new streams. Another one may.
    Unsent,
    /// Nothing was sent, and nothing would be on another connection.
    Refused(Error),
    /// The stream was open.
    Failed(Failed),
}

impl CallSlot {
    /// Asks the call credentials, if there are any, for what `request` needs to go
    /// out on this connection. What an earlier attempt was given is forgotten.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Credentials`] if there is none to be had, or the connection is
    /// in plaintext.
    pub(crate) async fn authorize(&self, request: &mut OutgoingRequest) -> Result<(), Error> {
        let connection = self.connection();
        if let Some(credentials) = connection.credentials() {
            let config = connection.config();
            let info = RequestInfo::new(request.path(), &config.authority, config.secure);
            request.set_credentials(credentials.headers(info).await?);
        }
        Ok(())
    }

    /// Opens a stream and sends `request` on it, as far as its body is ready.
    pub(crate) fn open(mut self, request: &mut OutgoingRequest) -> Result<Exchange, SendError> {
        let connection = self.connection();
        let config = connection.config();
        let uri = request
            .uri(&config.scheme, &config.authority)
            .map_err(SendError::Refused)?;
        let head = request.head(uri, &config.user_agent, connection.address());
        // Until it is open: its end is not to be seen before it.
        let streams = connection.lock_streams();
        if let Some(most) = streams.header_list() {
            let size = header_list(&head);
            if size > most as usize {
                let error = too_large(size, most, connection.address());
                return Err(SendError::Refused(error));
            }
        }
        let streams = self.is_for_call().then_some(streams);
        // A clone for each call, because a `SendRequest` that filled the peer's
        // limit refuses the next request for a moment; clones do not.
        let mut send = connection.send().clone();
        match send.send_request(head, request.is_empty()) {
            Ok((response, stream)) => {
                let number = streams.map(|mut streams| {
                    let number = response.stream_id().as_u32();
                    streams.open(number, request.ready_bytes());
                    connection.unlock_streams(streams);
                    number
                });
                if let Some(number) = number {
                    self.set_stream(number);
                }
                let pump = request.send(stream);
                Ok(Exchange::new(response, pump, self))
            }
            Err(error) => match h2_error::end_on_open(&error, connection.send()) {
                None => Err(refused(&error)),
                Some(why) => {
                    drop(streams);
                    connection.close_to_new_streams(Stage::Draining(why));
                    Err(SendError::Unsent)
                }
            },
        }
    }
}

/// The size of a header list, by which peers bound it (RFC 9113 §6.5.2).
fn header_list(head: &Request<()>) -> usize {
    const ENTRY: usize = 32;
    const PSEUDO: usize = ":method:scheme:authority:path".len() + 4 * ENTRY;
    let uri = head.uri();
    let authority = uri
        .authority()
        .map_or(0, |authority| authority.as_str().len());
    let path = uri.path_and_query().map_or(0, |path| path.as_str().len());
    let scheme = uri.scheme_str().map_or(0, str::len);
    let headers = head.headers().iter();
    let headers = headers.map(|(name, value)| name.as_str().len() + value.len() + ENTRY);
    PSEUDO + head.method().as_str().len() + scheme + authority + path + headers.sum::<usize>()
}

/// The peer would end the whole connection over it, and each after that.
fn too_large(size: usize, most: u32, address: &str) -> Error {
    let text = format!(
        "header list size to send ({size} bytes) violates the maximum size ({most} bytes) set by \
         server {address}; nothing was sent"
    );
    Error::with_status(ErrorKind::InvalidRequest, Status::resource_exhausted(text))
}

fn refused(error: &h2::Error) -> SendError {
    SendError::Refused(Error::new(
        ErrorKind::InvalidRequest,
        format!("HTTP/2 cannot carry this request: {error}"),
    ))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::header_list;

    // D273
    #[test]
    fn a_header_list_is_as_large_as_http2_says() {
        let head = Request::post("http://a:1/s/m").header("te", "trailers");
        let head = head.body(()).expect("a head");
        let entries = [
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", "a:1"),
            (":path", "/s/m"),
            ("te", "trailers"),
        ];
        let size = |(name, value): &(&str, &str)| name.len() + value.len() + 32;
        assert_eq!(header_list(&head), entries.iter().map(size).sum::<usize>());
    }
}
