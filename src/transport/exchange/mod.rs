//! One exchange on one stream: the request going out, the response coming in.
//!
//! ```text
//!   OutgoingRequest ──open──► Exchange ──headers──► ResponseBody
//!   head kept,                polls the response,   DATA, trailers; frees the slot
//!   first frame kept          pumps the request     when the stream ends
//!                               └─ unfinished ──► RequestBodyTask, cancelled with the body
//! ```

mod additions;
mod body;
mod counted_body;
mod deadline;
mod headers;
mod http_error;
mod live;
mod message_limit;
mod open;
mod prefixes;
mod quote;
mod replay;
mod request;
mod request_body;
mod response;
mod send;
mod sent_bytes;
mod shared_live;
pub(crate) mod timeout_header;
mod witnessed;
mod witnessed_body;

pub(crate) use body::ResponseBody;
pub(crate) use deadline::{Deadline, Limit, limit_after, sooner};
pub(crate) use open::SendError;
pub(crate) use prefixes::MessageBytes;
pub(crate) use replay::{Held, ReplayBudget};
pub(crate) use request::OutgoingRequest;
#[cfg(test)]
pub(crate) use response::Exchange;
pub(crate) use response::Failed;
