//! What has happened on the wire, and what it frees.

use super::{
    streams::{Freed, Left, StreamTable},
    unread::Came,
};
use crate::util::clock::now;

const CALL: Freed = Freed { slots: 1, calls: 1 };
const SLOT: Freed = Freed { slots: 1, calls: 0 };
const NOTHING: Freed = Freed { slots: 0, calls: 0 };

fn opened() -> StreamTable {
    let mut streams = StreamTable::default();
    streams.open(1, 0);
    streams
}

/// What each event frees.
type Script<'a> = &'a [(fn(&mut StreamTable), Freed)];

#[test]
fn a_slot_is_free_when_both_sides_are_over_on_the_wire() {
    let request: fn(&mut StreamTable) = |streams| streams.on_request_over(1);
    let response: fn(&mut StreamTable) = |streams| streams.on_response_over(1);
    let reset: fn(&mut StreamTable) = |streams| assert!(streams.on_reset(1));
    let leave: fn(&mut StreamTable) = |streams| assert_eq!(streams.leave(1), Left::Ends);
    let again: fn(&mut StreamTable) = |streams| assert_eq!(streams.leave(1), Left::Over);
    let blocked: fn(&mut StreamTable) = |streams| streams.on_blocked(now);
    let written: fn(&mut StreamTable) = StreamTable::on_written;
    let poll: fn(&mut StreamTable) = |_| {};
    let scripts: &[Script<'_>] = &[
        &[(request, NOTHING), (response, CALL), (again, NOTHING)],
        &[(response, NOTHING), (request, CALL)],
        &[
            (request, NOTHING),
            (leave, NOTHING),
            (poll, NOTHING),
            (reset, SLOT),
        ],
        &[(request, NOTHING), (leave, NOTHING), (response, SLOT)],
        &[(reset, CALL), (again, NOTHING)],
        // The answer is whole, and the end of the request waits for a window.
        &[(response, NOTHING), (leave, NOTHING), (poll, SLOT)],
        &[
            (response, NOTHING),
            (leave, NOTHING),
            (request, SLOT),
            (poll, NOTHING),
        ],
        &[
            (response, NOTHING),
            (blocked, NOTHING),
            (leave, NOTHING),
            (poll, NOTHING),
            (poll, NOTHING),
            (written, SLOT),
        ],
    ];
    for (number, script) in scripts.iter().enumerate() {
        let mut streams = opened();
        for (step, (event, freed)) in script.iter().enumerate() {
            event(&mut streams);
            assert_eq!(streams.take_freed(), *freed, "script {number}, step {step}");
        }
    }
}

#[test]
fn streams_that_are_not_open_have_no_end() {
    let mut streams = opened();
    streams.on_request_over(3);
    streams.on_response_over(3);
    assert!(!streams.on_reset(3));
    assert_eq!(streams.on_headers(3, true), None);
    assert_eq!(streams.take_freed(), NOTHING);
    assert_eq!(streams.settled(3), None);
}

#[test]
fn a_small_answer_that_is_whole_tells_its_frames() {
    let mut streams = opened();
    streams.on_data(1, Came::frame(10, false), false);
    streams.on_data(1, Came::frame(10, true), false);
    assert_eq!(streams.settled(1), None, "more may come");
    streams.on_data(1, Came::frame(10, false), true);
    assert_eq!(streams.settled(1), Some(2), "padded ones do not count");
    streams.open(3, 0);
    streams.on_response_over(3);
    assert_eq!(streams.settled(3), Some(0), "an answer without DATA");
}

#[test]
fn a_peer_that_says_nothing_is_given_16_calls_to_cancel() {
    let mut streams = StreamTable::default();
    let cancel = |streams: &mut StreamTable, number| {
        streams.open(number, 0);
        streams.on_request_over(number);
        assert_eq!(streams.leave(number), Left::Ends);
        streams.on_reset(number);
    };
    for number in 0..15 {
        cancel(&mut streams, 2 * number + 1);
        assert_eq!(streams.take_hold(), None);
    }
    assert!(!streams.has_question());
    cancel(&mut streams, 31);
    assert_eq!(streams.take_hold(), Some(true));
    assert_eq!(streams.take_hold(), None, "it is not new");
    assert!(streams.has_question());
    streams.on_settings_ack();
    assert!(streams.has_question(), "those were others");
    streams.on_question(true);
    assert!(!streams.has_question(), "once");
    streams.on_bytes();
    assert_eq!(streams.take_hold(), None, "they may be older");
    for number in 16..40 {
        streams.open(2 * number + 1, 0);
        assert_eq!(streams.leave(2 * number + 1), Left::EndsLater);
        streams.park(2 * number + 1, Box::new(()));
    }
    assert!(streams.take_parked().is_empty());
    streams.on_settings_ack();
    assert_eq!(streams.take_parked().len(), 16);
    assert_eq!(streams.take_hold(), None, "they are 16 again");
    assert!(streams.has_question());
    streams.on_question(false);
    streams.on_bytes();
    assert_eq!(streams.take_parked().len(), 8);
    assert_eq!(streams.take_hold(), Some(false));
}

#[test]
fn cancelled_calls_of_which_nothing_is_written_are_dead() {
    let mut streams = StreamTable::default();
    for number in [1, 3, 5, 7] {
        streams.open(number, 0);
    }
    streams.on_head(1);
    for number in [1, 3, 5] {
        streams.leave(number);
    }
    assert_eq!(streams.dead(), 2);
    streams.on_head(3);
    assert_eq!(streams.dead(), 1);
    for number in [1, 3, 5, 7] {
        streams.on_reset(number);
    }
    assert_eq!(streams.dead(), 0);
}

#[test]
fn a_mebibyte_that_waits_holds_back_calls_until_it_is_written() {
    let mut streams = StreamTable::default();
    streams.on_blocked(now);
    for number in 0..15 {
        streams.open(2 * number + 1, 1 << 30);
        assert_eq!(streams.take_hold(), None);
    }
    streams.open(31, 1 << 30);
    assert_eq!(streams.take_hold(), Some(true));
    streams.take_freed();
    assert_eq!(streams.take_hold(), None, "the socket takes nothing");
    streams.on_request_over(1);
    assert_eq!(streams.take_hold(), Some(false));
    streams.on_reset(1);
    streams.open(33, 1 << 30);
    assert_eq!(streams.take_hold(), Some(true));
    streams.on_written();
    streams.take_freed();
    assert_eq!(streams.take_hold(), Some(false), "they wait for windows");
    streams.on_request_over(3);
    streams.on_reset(5);
    assert_eq!(streams.take_hold(), None, "what was before counts no more");
}

#[test]
fn many_end_in_any_order() {
    let mut streams = StreamTable::default();
    let mut numbers: Vec<_> = (1..200).step_by(2).collect();
    for number in &numbers {
        streams.open(*number, 0);
    }
    fastrand::Rng::with_seed(7).shuffle(&mut numbers);
    for number in &numbers[..30] {
        streams.on_reset(*number);
    }
    for number in &numbers[20..50] {
        streams.on_request_over(*number);
        streams.on_response_over(*number);
    }
    let freed = streams.take_freed();
    assert_eq!(
        freed,
        Freed {
            slots: 50,
            calls: 50
        }
    );
    streams.end_all();
    let freed = streams.take_freed();
    assert_eq!(
        freed,
        Freed {
            slots: 50,
            calls: 50
        },
        "the rest"
    );
}

#[test]
fn what_has_come_is_kept_until_its_call_lets_go_of_it() {
    let mut streams = opened();
    streams.open(3, 0);
    let received = |streams: &StreamTable| -> Vec<_> {
        let received = streams.received().into_iter();
        received.map(|part| (part.stream, part.came)).collect()
    };
    assert!(received(&streams).is_empty());
    let frame = Came::frame(70_000, false);
    streams.on_data(1, frame, false);
    streams.on_data(5, frame, false);
    assert_eq!(received(&streams), [(1, frame)]);
    assert_eq!(streams.take_came(), frame.cost());
    assert_eq!(streams.take_came(), 0);
    streams.on_request_over(1);
    streams.on_response_over(1);
    assert_eq!(streams.take_freed(), CALL);
    assert_eq!(streams.settled(1), None, "it is large");
    assert_eq!(received(&streams), [(1, frame)]);
    assert_eq!(streams.leave(1), Left::Over);
    streams.on_data(3, frame, false);
    streams.leave(3);
    assert!(received(&streams).is_empty());
    streams.on_response_over(3);
}
