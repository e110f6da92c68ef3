//! Deadlines that travel: a server that calls others gives them what is left of the time that
//! it was given.
//!
//! A caller says in `grpc-timeout` how long its call may take. A server that calls another one
//! on its behalf has until then, and so has the other: an answer that comes later is of no use
//! to anybody. As a timeout is a length of time, it says nothing of when it began, and a
//! program that passes it on as it came gives the time away that it has used itself. [`from`]
//! makes a moment of it, a [`Deadline`], which stays the same however often, and however late,
//! it is put into a request.
//!
//! ```
//! use tonic::{Request, Response, Status};
//! use tonic_health_channel::deadline;
//!
//! # #[derive(Clone)] struct Stock;
//! # impl Stock {
//! #     async fn reserve(&mut self, _: Request<u32>) -> Result<Response<()>, Status> {
//! #         Ok(Response::new(()))
//! #     }
//! # }
//! /// The handler of a server that asks another one, twice.
//! async fn order(request: Request<u32>, mut stock: Stock) -> Result<Response<()>, Status> {
//!     let deadline = deadline::from(&request); // first of all: the time counts from here
//!     for item in [1, 2] {
//!         let mut reserve = Request::new(item);
//!         deadline.put_into(&mut reserve);
//!         stock.reserve(reserve).await?; // the second has less time than the first
//!     }
//!     Ok(Response::new(()))
//! }
//! ```
//!
//! A call that is made when nothing is left fails with DEADLINE_EXCEEDED, and is not sent.
//! `examples/deadline.rs` is a server that calls another.
//!
//! # When the time begins
//!
//! With the call of [`from`], as nothing in a request says when it came. What has passed before
//! is not counted: the way here, layers of the server that hold requests back, and what a
//! handler does first. Where that matters, let [`stamp`] be the server's first interceptor:
//! the request then carries its deadline from there on, and [`from`] finds it.

mod travel;

pub use travel::{Deadline, from, stamp};
