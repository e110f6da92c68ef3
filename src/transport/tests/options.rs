//! What an endpoint's options put on the wire, and take from it.

use std::{collections::BTreeMap, time::Duration};

use tokio::io::duplex;

use super::{
    Connection, Endpoint, PIPE, alone, closes, dial, endpoint_over, open, soon, unary,
    wire::{MAX_CONCURRENT_STREAMS, RST_STREAM, SETTINGS, WINDOW_UPDATE, Wire, wired_by},
};

const HEADER_TABLE_SIZE: u16 = 1;
const ENABLE_PUSH: u16 = 2;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;
const MAX_HEADER_LIST_SIZE: u16 = 6;

/// What the first SETTINGS of a connection say, and the size of its window.
async fn said(options: fn(Endpoint) -> Endpoint) -> (BTreeMap<u16, u32>, u32) {
    let (ours, theirs) = duplex(PIPE);
    let mut wire = Wire(theirs);
    wire.settings(&[(MAX_CONCURRENT_STREAMS, 1)]).await;
    let connection = soon(dial(options(endpoint_over(ours)), alone())).await;
    let _connection = connection.expect("connects");
    wire.read_preface().await;
    let settings = wire.read_until(SETTINGS).await.payload;
    let said = settings.chunks_exact(6).map(|setting| {
        let (name, value) = setting.split_at(2);
        let name = u16::from_be_bytes(name.try_into().expect("two bytes"));
        let value = u32::from_be_bytes(value.try_into().expect("four bytes"));
        (name, value)
    });
    let said = said.collect();
    let more = wire.read_until(WINDOW_UPDATE).await.payload;
    let more = u32::from_be_bytes(more[..].try_into().expect("four bytes"));
    (said, more + 65_535)
}

#[tokio::test(start_paused = true)]
async fn the_defaults_are_those_of_tonic_but_for_the_connection() {
    let (settings, connection_window) = said(|endpoint| endpoint).await;
    assert_eq!(settings[&INITIAL_WINDOW_SIZE], 2 << 20);
    assert_eq!(connection_window, 1 << 30);
    assert_eq!(settings[&MAX_HEADER_LIST_SIZE], 16 << 10);
    assert_eq!(settings[&ENABLE_PUSH], 0);
    assert!(!settings.contains_key(&MAX_FRAME_SIZE));
    assert!(!settings.contains_key(&HEADER_TABLE_SIZE));
}

#[tokio::test(start_paused = true)]
async fn the_peer_is_told_what_was_chosen() {
    let (settings, connection_window) = said(|endpoint| {
        endpoint
            .initial_stream_window_size(100_000)
            .initial_connection_window_size(200_000)
            .max_frame_size(20_000)
            .http2_header_table_size(1_000)
            .http2_max_header_list_size(3_000)
            .buffer_size(1)
    })
    .await;
    assert_eq!(settings[&INITIAL_WINDOW_SIZE], 100_000);
    assert_eq!(connection_window, 1 << 30);
    assert_eq!(settings[&MAX_FRAME_SIZE], 20_000);
    assert_eq!(settings[&HEADER_TABLE_SIZE], 1_000);
    assert_eq!(settings[&MAX_HEADER_LIST_SIZE], 3_000);
}

#[tokio::test(start_paused = true)]
async fn nothing_chosen_is_the_default() {
    let chosen = said(|endpoint| {
        endpoint
            .initial_stream_window_size(None)
            .initial_connection_window_size(None)
            .max_frame_size(None)
            .http2_adaptive_window(false)
    });
    assert_eq!(chosen.await, said(|endpoint| endpoint).await);
}

#[tokio::test(start_paused = true)]
async fn an_adaptive_window_is_as_large_as_it_may_get() {
    let (settings, connection_window) = said(|endpoint| {
        endpoint
            .initial_stream_window_size(100_000)
            .http2_adaptive_window(true)
    })
    .await;
    assert_eq!(settings[&INITIAL_WINDOW_SIZE], 16 << 20);
    assert_eq!(connection_window, 1 << 30);
}

#[tokio::test(start_paused = true)]
async fn sizes_beyond_what_http2_knows_are_taken_for_the_nearest() {
    let (settings, _) = said(|endpoint| endpoint.max_frame_size(u32::MAX)).await;
    assert_eq!(settings[&MAX_FRAME_SIZE], (1 << 24) - 1);
    let (settings, _) = said(|endpoint| endpoint.max_frame_size(0)).await;
    assert_eq!(settings[&MAX_FRAME_SIZE], 1 << 14);
}

/// Calls are cancelled, and answered by a peer that learns of it late.
async fn answered_late(calls: usize, options: fn(Endpoint) -> Endpoint) -> (Connection, Wire) {
    let (connection, mut wire) = wired_by(options, alone(), 100).await;
    for _ in 0..calls {
        let exchange = open(&connection, unary("")).await;
        let stream = wire.next_request().await;
        drop(exchange);
        wire.read_until(RST_STREAM).await;
        wire.headers(stream).await;
    }
    (connection, wire)
}

#[tokio::test(start_paused = true)]
async fn late_answers_to_cancelled_calls_are_no_errors() {
    let (connection, mut wire) = answered_late(5, |endpoint| endpoint).await;
    let exchange = open(&connection, unary("")).await;
    let stream = wire.next_request().await;
    wire.answer(stream, b"").await;
    assert!(soon(exchange).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn unless_nothing_is_remembered_and_errors_are_counted() {
    let forgetful = answered_late(2, |endpoint| {
        endpoint
            .http2_max_concurrent_reset_streams(0)
            .http2_reset_stream_duration(Duration::ZERO)
            .http2_max_local_error_reset_streams(1)
    });
    let (connection, _wire) = forgetful.await;
    let why = closes(&connection).await;
    assert!(why.contains("excessive load"), "{why}");
}
