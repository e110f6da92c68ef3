//! From a slot to a stream: the request is authorized, and goes out.

use super::{request::OutgoingRequest, response::Exchange};
use crate::{
    error::{Error, ErrorKind},
    transport::{
        connection::{CallSlot, RequestInfo, Stage},
        words::h2_error,
    },
};

/// Why a stream could not be opened. Nothing was sent.
#[derive(Debug)]
pub(crate) enum OpenError {
    /// The connection takes no new streams. Another one may.
    Unsent,
    /// HTTP/2 cannot carry the request; no connection can.
    Refused(Error),
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
    pub(crate) fn open(mut self, request: &mut OutgoingRequest) -> Result<Exchange, OpenError> {
        let connection = self.connection().clone();
        let config = connection.config();
        let head = request
            .head(&config.scheme, &config.authority, &config.user_agent)
            .map_err(OpenError::Refused)?;
        // A clone for each call, because a `SendRequest` that filled the peer's
        // limit refuses the next request for a moment; clones do not.
        let mut send = connection.send().clone();
        // Until it is open: its end is not to be seen before it.
        let streams = self.is_for_call().then(|| connection.lock_streams());
        match send.send_request(head, request.is_empty()) {
            Ok((response, stream)) => {
                if let Some(mut streams) = streams {
                    let number = response.stream_id().as_u32();
                    streams.open(number, request.ready_bytes());
                    connection.unlock_streams(streams);
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
                    Err(OpenError::Unsent)
                }
            },
        }
    }
}

fn refused(error: &h2::Error) -> OpenError {
    OpenError::Refused(Error::new(
        ErrorKind::InvalidRequest,
        format!("HTTP/2 cannot carry this request: {error}"),
    ))
}
